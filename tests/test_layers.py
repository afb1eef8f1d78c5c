"""The floors of the house: an import may go down or stay in its room, and no files import each other in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "saeft_ray"
FLOORS = [
    {"draws", "errors", "spelling"},
    {"settings", "storage", "stats", "table_file"},
    {"model", "door"},
    {"datasets", "sae"},
    {"methods"},
    {"config", "training"},
    {"records"},
    {"orchestration"},
    {"features"},
    {"report", "results", "housekeeping", "mirrors"},
    {"on_ray"},
    {"driver"},
    {"api"},
    {
        *("compare", "data", "evaluate", "export", "mirror", "preflight", "status", "sweep", "trial", ""),
        *("__main__", "features.__main__", "storage.__main__"),
    },
    {"slurm"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path):
    """The modules of this package that a file imports, anywhere in it: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "saeft_ray":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "saeft_ray")


def room(module):
    """A door that needs the floors above its own room stands with the doors."""
    name = module.partition(".")[2]
    if name in FLOOR:
        return name
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_a_floor():
    assert {room(module) for module in FILES} == FLOOR.keys()


def test_no_import_runs_back_up():
    up = [
        f"{module} imports {other}: {room(other)} is not below {room(module)}"
        for module, path in FILES.items()
        for other in imports(path)
        if room(module) != room(other) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert not up, "\n".join(up)


def test_no_files_import_each_other_in_a_circle():
    graph = {module: {other for other in imports(path) if other != module} for module, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def test_every_module_says_what_it_is_for():
    mute = [module for module, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not mute, mute


def test_no_function_is_long():
    long = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in FILES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 80
    ]
    assert not long, "\n".join(long)
