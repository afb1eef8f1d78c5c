"""Every exception of this package, as a tree.

    SaeftError                     caught by nobody but users of the package
    ├── UserError (ValueError)     a mistake of the user's; doors print it in one line and exit with status 2
    │   ├── Taken                  another driver runs this sweep
    │   ├── NoRoom                 the node's cache cannot hold what must be read
    │   ├── Unseen                 a place is missing or does not answer
    │   ├── Gone                   a file that was listed is no longer there (also FileNotFoundError)
    │   └── Corrupt                a file is not a whole image
    ├── Unfinished (RuntimeError)  trials could not be run; what ended is safe, exit status 1
    ├── Unavailable (OSError)      storage refuses or stays away; exit status 1
    ├── Damaged (OSError)          a stored file is not what was written
    ├── Missing (KeyError)         an artifact is not in the store
    ├── Diverged (ArithmeticError) a loss was not finite: a result of the method, kept as rows
    ├── Preempted                  a trial was asked to leave, and saved what it had
    └── Stopped                    somebody wants a trial to end for good: kept as rows

Anything else that is raised is a bug, of ours or of a library: it keeps its traceback and exits with status 1.
"""


class SaeftError(Exception):
    """The base of all exceptions of this package."""


class UserError(SaeftError, ValueError):
    """A mistake of the user's: says the place, what came, what is allowed and what to do."""


class Taken(UserError):
    """Another driver runs this sweep."""


class NoRoom(UserError):
    """The node's cache cannot hold what must be read."""


class Unseen(UserError):
    """A place that is missing or does not answer from here."""


class Gone(UserError, FileNotFoundError):
    """A file that was there when its folder was listed, and is no longer."""


class Corrupt(UserError):
    """The bytes are not a whole image."""


class Unfinished(SaeftError, RuntimeError):
    """Trials could not be run, and not because of their method. What ended is safe; the same command continues."""


class Unavailable(SaeftError, OSError):
    """The storage cannot be used now; says what it answered and what to do."""


class Damaged(SaeftError, OSError):
    """Stored bytes are not those that were written; `build` names the build of an artifact that has them."""

    def __init__(self, message: str, build: str = ""):
        super().__init__(message)
        self.build = build

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.build)


class Missing(SaeftError, KeyError):
    """The artifact is not in the store."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])


class Diverged(SaeftError, ArithmeticError):
    """The loss was not finite: a result of the method, not a fault of the machine."""


class Preempted(SaeftError):
    """A trial was asked to stop: it saved what it had, and continues from there elsewhere or later."""


class Stopped(SaeftError):
    """Somebody asked for the end of a trial, for good; the message says who and when."""
