"""A sweep from Python: load or open one, run it, read what came of it. The doors run sweeps through this file."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from rich.console import Console

from saeft_ray.config import sweep_file
from saeft_ray.config.schema import SweepConfig
from saeft_ray.driver import check_caller, drive, hands, logs_named
from saeft_ray.errors import UserError
from saeft_ray.features import found as features_found
from saeft_ray.features.files import keep
from saeft_ray.features.found import WrittenFeatures
from saeft_ray.orchestration.facts import find_facts, in_haste
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Terminal
from saeft_ray.orchestration.reopen import load as load_file
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.show_plan import PlanSummary as PlanSummary
from saeft_ray.orchestration.show_plan import show
from saeft_ray.orchestration.signals import StopSignals
from saeft_ray.records.course import trials_table
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.query import query_table, summary
from saeft_ray.records.read import read_record, read_rows, read_trials, rows_of
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.report import WrittenReport, report_sweep, write_features
from saeft_ray.results import further_tables
from saeft_ray.storage.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from saeft_ray.orchestration.replay import Comparison
    from saeft_ray.sae import Dictionary


def load(source: str | Path | Mapping[str, Any]) -> "Sweep":
    """The sweep that a sweep file describes. Nothing is run or written.

    Arguments:
        source: the path of a sweep file (YAML), or a dict of its sections.

    Raises UserError that lists every mistake, each with its place.

    Example: `sweep = saeft_ray.load("sweeps/quickstart.yaml")`
    """
    if isinstance(source, Mapping):
        return Sweep(sweep_file.validated(dict(source), "the given dict"))
    if not isinstance(source, str | Path):
        raise UserError(
            f"load takes the path of a sweep file, or a dict of its sections; found {type(source).__name__}"
        )
    if "\n" in str(source):
        raise UserError("load takes the path of a sweep file; found several lines of text: give yaml.safe_load(text)")
    return Sweep(load_file(str(source)))


def open_sweep(storage: str | Path, endpoint: str | None = None) -> "Sweep":
    """A sweep that runs or has ended, from its record.

    Arguments:
        storage: the sweep's folder or URL, as the sweep printed it: `runs/sweeps/quickstart`.
        endpoint: the URL of the S3 server, where AWS_ENDPOINT_URL does not say it.

    Raises UserError if there is no sweep, or one whose settings this version does not know.

    A record holds neither `compute` nor `storage.endpoint`: this sweep has the default `compute`.

    Example: `sweep = saeft_ray.open_sweep("runs/sweeps/quickstart")`
    """
    plan, _, _ = reopen(str(storage), endpoint)
    return Sweep(plan.config)


class Sweep:
    """A sweep: its plan, its run, and what came of it. Made by `load` or `open_sweep`."""

    def __init__(self, config: SweepConfig):
        self.config = config

    @property
    def name(self) -> str:
        """The name that the sweep file gives."""
        return self.config.name

    @cached_property
    def folder(self) -> str:
        """The folder or URL of its record, rows and report."""
        return f"{self._store.url}/sweeps/{self.name}"

    @property
    def endpoint(self) -> str | None:
        """The S3 server that the sweep file names; None for the environment's."""
        return self.config.storage.endpoint

    def __repr__(self) -> str:
        return f"<sweep {self.name} in {self.folder}>"

    # What will run --------------------------------------------------------------------------------------------

    def plan(self) -> PlanSummary:
        """Artifacts, methods and trials of a run. Looks at data and weights, and runs nothing.

        Raises UserError for data or weights that do not fit.

        Example: `print(sweep.plan())`
        """
        text = StringIO()
        plan = self.show_plan(Console(file=text, width=120))
        return PlanSummary(plan.counts(), plan.steps, text.getvalue())

    def show_plan(self, console: Console) -> Plan:
        """Prints the same as tables on a rich `console`."""
        plan = Plan(self.config, find_facts(in_haste(self.config), planning=True))
        show(plan, console)
        if self.config.features.on:
            _say_unread(self.config, console, "features.words")
        return plan

    def run(self, *, local: bool = False, quiet: bool = False, join: bool = False, extend: bool = False) -> Self:
        """Runs the sweep, or what is left of it. Call it in the main thread, which hears the signals.

        Arguments:
            local: serially in this process, without Ray.
            quiet: show no progress.
            join: use the Ray that this process is connected to, and leave it running. Its workers need the credentials
                of the storage in their environment.
            extend: add what the file adds to a sweep of this name: methods, seeds, test sets, pairs, a larger search.

        Raises UserError for a mistake, before anything runs; also `Taken` if another driver runs this sweep, and if
        this process is connected to a Ray and neither `local` nor `join` is given. Unfinished if trials could not be
        run, Unavailable if the storage refuses. KeyboardInterrupt after Ctrl-C or SIGTERM: trials have 20 s to save
        checkpoints. Finished trials are safe in all these cases, and the same call continues.

        Example: `sweep = saeft_ray.load("sweeps/quickstart.yaml").run(local=True)`
        """
        check_caller("Sweep.run", local or join)
        if not (local or join):
            from saeft_ray.on_ray.cluster import find_with_room

            find_with_room(self.config.compute)  # what is wrong with it is told before anything is read or taken
        plan = Plan(self.config, find_facts(self.config))
        console = Terminal(stderr=quiet, quiet=quiet)
        if self.config.features.on:
            _say_unread(self.config, console, "features.words")
        with logs_named(self.folder):
            drive(plan, self._store, local, console, extend)
        self.__dict__.pop("_opened", None)
        return self

    # What came of it ------------------------------------------------------------------------------------------

    def rows(self) -> pa.Table:
        """Every row of the sweep as an Arrow table: one row per trial × data set × metric; `.to_pandas()` for pandas.

        Raises UserError if the sweep has not begun, Damaged for files that are not what was written.

        Example: `sweep.rows().to_pandas().query("phase == 'confirm'")`
        """
        self._opened  # noqa: B018 - the sweep must be there
        return read_rows(self.folder, self.endpoint)

    def trials(self) -> pa.Table:
        """One line for each ended trial as an Arrow table: what it came to, its node, device and times, and each value
        of its settings in a column of its own. Times are None for trials of before they were kept.

        Raises as `rows`.

        Example: `sweep.trials().to_pandas().sort_values("selection")`
        """
        self._opened  # noqa: B018 - the sweep must be there
        return trials_table(read_trials(self.folder, self.endpoint))

    def results(self, sql: str | None = None) -> pa.Table:
        """The answer to a query as an Arrow table.

        Arguments:
            sql: a query on the tables `results`, `examples`, `trials`, `epochs`, `classes` (accuracy by class) and
                `evaluations`, and on `features`, `changes` and `firings` where `features` has found them; without it,
                mean accuracies in %.

        Raises UserError for SQL that does not run; else as `rows`.

        Example: `sweep.results("SELECT method, avg(value) FROM results WHERE role = 'ood' GROUP BY 1").to_pandas()`
        """
        self._opened  # noqa: B018 - the sweep must be there
        asked, files = sql or summary(read_record(self.folder, self.endpoint)), read_trials(self.folder, self.endpoint)
        return query_table(rows_of(files), asked, further_tables(asked, files, self.folder, self.endpoint))

    def report(self, out: str | Path | None = None) -> WrittenReport:
        """Writes the report: `.report` is what it says, `.page` where report.html is.

        Arguments:
            out: a local folder; without it, `report/` in the sweep's folder.

        Raises UserError if `out` cannot be written; else as `rows`.

        Example: `print(sweep.report().report.headline)`
        """
        self._opened  # noqa: B018 - the sweep must be there
        return report_sweep(self.folder, None if out is None else Path(out), self.endpoint)

    def features(
        self,
        *,
        methods: Sequence[str] | None = None,
        against: str | None = None,
        words: Sequence[str] | str | None = None,
        sets: Sequence[str] | None = None,
        full: bool = False,
        out: str | Path | None = None,
        local: bool = False,
        join: bool = False,
    ) -> WrittenFeatures:
        """Finds which features fine-tuning added and removed, from stored weights, and writes the page: `.found` is
        what it says, `.page` where features.html is; `.features_table()`, `.changes_table()` and `.firings_table()` are
        Arrow tables.

        Arguments:
            methods: labels of methods; without it, all that were trained.
            against: a method that the others are compared with; without it, the frozen model and the baseline.
            words: what features may be named after: words, or the path of a text file; without it, as recorded.
            sets: test sets to look at; without it, as recorded.
            full: everything that `features: full` computes.
            out: a local folder for the page alone; without it the sweep's report is written anew, with the page. A part
                (methods, against or sets) goes into a folder of its own beside the report, which shows all.
            local, join: as `run` takes them.

        Raises UserError for an unknown method or set, a file that is not there, weights or images that are gone, and
        for a Ray as `run` does.

        Example: `sweep.features().changes_table().to_pandas().query("sure and effect > 1")`
        """
        from saeft_ray.features.progress import telling
        from saeft_ray.features.summary import what_changed

        plan, ledger, store = self._opened
        features_found.check_asked(plan, ledger, methods, against)
        part = features_found.part(methods, against, sets)
        if out is None:
            store.check_writable()
        given = {"words": words, "sets": sets, "mode": "full" if full else None}
        plan = features_found.with_settings(plan, given)
        check_caller("Sweep.features", local or join)
        console = Terminal(stderr=True)
        _say_unread(plan.config, console, "words")
        with StopSignals() as signals, hands(plan, store, ledger, signals, local) as them:
            each = telling(them.each, lambda line: console.out(line, highlight=False))
            changed = what_changed(plan, ledger, store, methods=methods, against=against, each=each)
        if not changed.readings:  # what was found before is worth more
            raise UserError(f"{self.folder}: nothing could be recorded of its features: {'; '.join(changed.missing)}")
        changed = features_found.labelled(changed, ledger.registration())
        changed = features_found.scoped(changed, methods, against, sets, words)
        if out is not None or part:
            place = f"{self.folder}/{part}" if out is None else str(out)
            write_features(changed, plan, place, self.endpoint)
            return WrittenFeatures(changed, place)
        keep(changed, self.folder, self.endpoint)
        return WrittenFeatures(changed, self.report().folder)

    def replay(self, trial: str) -> "Comparison":
        """Runs a finished trial again and compares: `.equal`, or a list of `.differences`. Nothing is written.

        Arguments:
            trial: a name of the rows' column `trial`.

        Raises UserError if there is no such finished trial. Bits are equal with the same number of threads: start
        Python with OMP_NUM_THREADS=1, as the doors do.

        Example: `assert sweep.replay("confirm-ft-123").equal`
        """
        from saeft_ray.orchestration.replay import replay

        return replay(*self._opened, trial)

    def evaluate(self, trial_or_method: str, data: str | Path) -> pa.Table:
        """Scores stored end points on more images, and keeps the rows: `results` knows them as `evaluations`. Rows of
        the sweep stay as they are, and what was scored on these images before is not scored again.

        Arguments:
            trial_or_method: a confirm trial, or a method for all of its confirm trials.
            data: a folder of class folders or shards, local or a URL; or a set of the sweep by its name.

        Raises UserError for another trial or folder, a class that the sweep has not, or weights that are gone.

        Example: `sweep.evaluate("ft", "/data/birds/fog").to_pandas()`
        """
        from saeft_ray.orchestration import evaluate

        plan, ledger, store = self._opened
        specs = [self.trial_of(trial_or_method)]
        if trial_or_method in plan.labels:
            specs = [spec for spec, _ in evaluate.finished(plan, ledger, trial_or_method)]
        images = evaluate.images_of(plan, str(data))
        scored = evaluate.evaluate(plan, ledger, store, specs, images)
        return pa.concat_tables([each.rows for each in scored]).drop_columns("correct")

    def trial_of(self, trial_or_method: str) -> TrialSpec:
        """The spec of a trial, or of the first confirm trial of a method that has ended.

        Raises UserError if there is neither.
        """
        plan, ledger, _ = self._opened
        if trial_or_method in plan.labels:
            finished = ledger.finished()
            of_method = [s for s in ledger.asked("confirm") if s.method == trial_or_method and s.id in finished]
            if not of_method:
                raise UserError(f"{self.folder}: no confirm trial of {trial_or_method} has ended yet; run the sweep")
            return of_method[0]
        try:
            return ledger.spec(trial_or_method)
        except FileNotFoundError:
            raise UserError(
                f"{self.folder}: {trial_or_method!r} is neither a trial of its results nor a method; its methods are "
                f"{', '.join(plan.labels)}"
            ) from None

    def tuned_model(self, trial_or_method: str) -> Any:
        """The model that a confirm trial ended in, as an `open_clip` module of its own, in evaluation mode on the CPU.

        Arguments:
            trial_or_method: a trial, or a method for its first confirm seed.

        `model.encode_image` takes float (B, 3, H, W), normalised by `model.visual.image_mean` and `image_std`, and
        gives (B, d). The text tower is the frozen one.

        Raises UserError for a method that trains no weights, or weights that are not in the store.

        Example: `model = sweep.tuned_model("sae_ft")`
        """
        from saeft_ray.orchestration import tuned

        plan, _, store = self._opened
        classifier = tuned.tuned_classifier(plan, self.trial_of(trial_or_method), store)
        return tuned.open_clip_model(classifier, tuned.clip_of(plan))

    def dictionary(self, trial_or_method: str) -> "Dictionary":
        """The dictionary that a trial was trained with: `.encode` gives codes (B, D) of embeddings (B, d).

        Arguments:
            trial_or_method: a trial, or a method for its first confirm seed.

        Raises UserError for a method without a dictionary.

        Example: `atoms = sweep.dictionary("sae_ft").atoms`
        """
        from saeft_ray.orchestration import tuned

        plan, _, store = self._opened
        return tuned.dictionary_of(plan, self.trial_of(trial_or_method), store)

    def embeddings(self, trial_or_method: str, test_set: str) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
        """Embeddings of a test set by the frozen and by the tuned model.

        Arguments:
            trial_or_method: a trial, or a method for its first confirm seed.
            test_set: a test set of the sweep, or `selection`.

        Returns (frozen, tuned), each (N, d) float32, not normalised, in the order of the split: that of the bits in the
        table `examples`.

        Raises UserError for another test set, data that is not there, or as `tuned_model`.

        Example: `frozen, tuned = sweep.embeddings("ft", "UCI")`
        """
        from saeft_ray.orchestration import tuned

        plan, _, store = self._opened
        split = tuned.split_of(plan, test_set)
        return tuned.frozen_and_tuned(plan, self.trial_of(trial_or_method), split, store)

    @cached_property
    def _store(self) -> Store:
        return Store(self.config.storage.url, endpoint=self.config.storage.endpoint)

    @cached_property
    def _opened(self) -> tuple[Plan, Ledger, Store]:
        """The recorded sweep. Raises UserError if there is none, or another one of this name."""
        plan, ledger, store = reopen(self.folder, self.config.storage.endpoint)
        if plan.config.determining_settings() != self.config.determining_settings():
            raise UserError(
                f"{self.folder}: a sweep of this name ran with other settings; saeft_ray.open_sweep opens that one"
            )
        return Plan(self.config, plan.facts), ledger, store


def _say_unread(config: SweepConfig, console: Console, place: str) -> None:
    """Prints what is to be said of the words in `place`, before anything is computed."""
    from saeft_ray.features.naming import unread

    for sentence in unread(config):
        console.out(f"{place}: {sentence}", highlight=False)
