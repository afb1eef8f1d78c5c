"""Databases that hold a tracker's tables: opened by their SQLAlchemy URL, and refused where they hold other things."""

import sqlalchemy
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, OperationalError

from saeft_ray.errors import UserError


class Database:
    """The database at `url`; `shown` is how messages name it."""

    def __init__(self, url: str, shown: str):
        self._shown = shown
        try:
            self._is_file = sqlalchemy.make_url(url).get_backend_name() == "sqlite"
            self.engine = sqlalchemy.create_engine(url)
        except (ArgumentError, NoSuchModuleError) as error:
            raise UserError(f"{shown}: is not the URL of a database; give one as sqlite:///FILE.db") from error
        except ModuleNotFoundError as error:
            raise UserError(
                f"{shown}: such a database needs the module {error.name}; install it: pip install {error.name}"
            ) from error

    def check(self, table: str) -> None:
        """Raises UserError for a database that cannot be opened, or has tables and not `table` among them."""
        try:
            tables = set(sqlalchemy.inspect(self.engine).get_table_names())
        except DatabaseError as error:
            if self.is_away(error):
                raise
            raise UserError(f"{self._shown}: cannot be opened as a database ({error.orig}); give another") from error
        if tables and table not in tables:
            few = ", ".join(sorted(tables)[:5])
            raise UserError(f"{self._shown}: holds other things (the tables {few}); give a new database")

    def is_away(self, error: Exception) -> bool:
        """Whether `error` says that the server of the database does not answer; a file never does."""
        causes = (error, error.__cause__)
        return not self._is_file and any(isinstance(one, OperationalError | InterfaceError) for one in causes)
