"""The record names the code that ran: its commit, and what differs from it."""

import subprocess

from saeft_ray.records.versions import commit


def git(folder, *words):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_new_and_changed_files_of_the_package_count_and_no_others(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    git(tmp_path, "init")
    assert commit(package) is None  # nothing is tracked yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = commit(package)
    assert clean
    assert "dirty" not in clean

    (tmp_path / "notes.txt").write_text("beside the package")
    (package / "cache.pyc").write_text("ignored")
    assert commit(package) == clean

    seen = {clean}
    for name, text in (("mine.py", "a = 1"), ("mine.py", "a = 2"), ("__init__.py", "b = 1"), ("é x.py", "")):
        (package / name).write_text(text)
        found = commit(package)
        assert found.startswith(f"{clean}-dirty-")
        seen.add(found)
    assert len(seen) == 5


def test_an_environment_inside_somebodys_checkout_is_not_its_commit(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "theirs")
    package = tmp_path / ".venv" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert commit(package) is None
