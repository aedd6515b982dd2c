"""Settings: environment variables with the prefix LOMAS_, or a file `.env` in the working directory."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from platformdirs import user_data_path
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Login(BaseModel):
    """What opens a source: a user and password, or an access key and its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: SecretStr = Field(validation_alias=AliasChoices("username", "access_key_id"))
    password: SecretStr = Field(validation_alias=AliasChoices("password", "secret_access_key"))

    @property
    def secrets(self) -> tuple[str, str]:
        """The two in clear text, to be handed to a client library and nowhere else."""
        return self.username.get_secret_value(), self.password.get_secret_value()


class Settings(BaseSettings):
    """Read once when the server or a command starts; by a worker, when it opens a source."""

    model_config = SettingsConfigDict(
        env_prefix="LOMAS_",
        env_file=".env",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        # A mistake in a secret must not print it.
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("lomas-gql"),
        description="Folder of the default database and of the prepared rows. Private: nobody else may read it.",
    )
    database_url: str = Field(
        default="",
        description="Where budgets and releases are kept. SQLite in the data directory by default.",
    )
    private_workers: int = Field(
        default=2, ge=1, le=64, description="Processes per server that run queries on private rows."
    )
    public_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes per server for estimates and dummy runs; no private rows.",
    )
    query_seconds: float = Field(
        default=60, gt=0, le=86_400, description="Time limit of one run on private rows, in seconds."
    )
    model_seconds: float = Field(
        default=30, gt=0, le=86_400, description="The same for a model of diffprivlib, on dummy rows too."
    )
    synth_seconds: float = Field(
        default=600, gt=0, le=86_400, description="The same for a synthesizer, on dummy rows too."
    )
    worker_megabytes: int = Field(
        default=4096, ge=1024, description="Memory limit of one worker process; over it, the process ends."
    )
    worker_calls: int = Field(
        default=5000, ge=1, description="Calls of one worker process, after which a fresh one follows it."
    )
    queue_length: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Calls that may wait for the private workers of a server process, and as many for its public "
        "ones; who comes when it is full is refused, for free. One user may take half of it.",
    )
    check_seconds: float = Field(
        default=30, gt=0, le=3600, description="Time limit of an estimate or a dummy run, in seconds."
    )
    prepare_seconds: float = Field(
        default=600, gt=0, le=86_400, description="Time limit for reading a dataset's file, in seconds."
    )
    fetch_megabytes: int = Field(
        default=10_240, ge=1, description="Most that is fetched of a remote source, in megabytes."
    )
    refresh_seconds: float = Field(
        default=3600,
        ge=1,
        description="How often a source is read anew that cannot tell whether it changed, in seconds.",
    )
    credentials: dict[str, Login] = Field(
        default={},
        description="`LOMAS_CREDENTIALS__NAME__USERNAME` and `…__PASSWORD`, or `…__ACCESS_KEY_ID` and "
        "`…__SECRET_ACCESS_KEY`: what opens the sources that name them.",
    )
    answer_grain_seconds: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="Answers from private rows, their failures, estimates and dummy runs leave at multiples of this "
        "many seconds after they were asked for, so that their time tells nothing finer; at once with 0.",
    )
    spark_megabytes: int = Field(
        default=2048,
        ge=512,
        description="Memory of the Java process that a worker starts for datasets in Spark, in megabytes.",
    )
    spark_conf: dict[str, str] = Field(
        default={},
        description='More of Spark\'s own settings, as a JSON object of texts: `{"spark.executor.memory": "4g"}`.',
    )
    running_per_user: int = Field(
        default=1, ge=1, le=100, description="Releases that one user may have running at the same time."
    )
    lease_seconds: float = Field(
        default=15, ge=1, le=3600, description="After how long a dead server's running releases are settled."
    )
    preflight_rows: int = Field(
        default=100, ge=1, le=10_000, description="Dummy rows on which a query is tried before it is charged."
    )
    max_page_size: int = Field(default=100, ge=1, description="Largest page of a connection.")
    max_dummy_rows: int = Field(default=10_000, ge=1, description="Most dummy rows in an answer or a dummy run.")
    max_sample_rows: int = Field(default=10_000, ge=1, description="Most synthetic rows in an answer.")
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024, description="Largest request body, in bytes.")

    cors_origins: str = Field(
        default="",
        description="Origins of frontends on other hosts: `https://a.example.org,https://b.example.org`.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _listed(value):
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin):
                raise ValueError(f"{origin} is no origin: write a scheme, a host in lower case and perhaps a port")
        return value

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose pages may ask, beside our own."""
        return _listed(self.cors_origins)

    @property
    def url(self) -> str:
        """The database's URL, with the driver that this server uses."""
        url = self.database_url or f"sqlite:///{(self.data_dir / 'lomas.db').absolute()}"
        for prefix, driver in (("sqlite:", "sqlite+aiosqlite:"), ("postgresql:", "postgresql+psycopg:")):
            if url.startswith(prefix):
                return driver + url.removeprefix(prefix)
        return url

    def login(self, name: str) -> Login | None:
        """The credentials of that name, in any case; a dash, which no variable can hold, is an underscore."""
        return {_plain(known): login for known, login in self.credentials.items()}.get(_plain(name))

    @property
    def cache_dir(self) -> Path:
        """Where prepared rows are kept."""
        return self.data_dir / "prepared"


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def login_variables(name: str) -> str:
    """The environment variables that hold the credentials of that name."""
    prefix = f"LOMAS_CREDENTIALS__{_plain(name).upper()}"
    return f"{prefix}__USERNAME and {prefix}__PASSWORD"


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lower())


def host_name() -> str:
    """This machine's name, by which a server knows its own dead processes."""
    return platform.node() or "localhost"
