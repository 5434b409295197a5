"""A Dovecot server of the machine's own on loopback, for as long as tests run."""

from __future__ import annotations

import contextlib
import getpass
import imaplib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.launcher import find_free_port

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = maildir:{folder}/mail/%u
first_valid_uid = 1
mail_plugins = acl
default_internal_user = {internal}
default_internal_group = {group}
default_login_user = {internal}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Sent {{
    special_use = \\Sent
    auto = create
  }}
  mailbox Junk {{
    special_use = \\Junk
    auto = create
  }}
}}
plugin {{
  acl = vfile
}}
"""


def find_program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def is_installed() -> bool:
    """Whether there is a Dovecot whose configuration we know how to write, and an IMAP in it."""
    program = find_program("dovecot")
    if not program or not find_program("doveadm"):
        return False
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return told.stdout.startswith("2.3.") and Path("/usr/lib/dovecot/imap").exists()


@dataclass(frozen=True)
class Dovecot:
    """A running server with one mailbox."""

    folder: Path
    port: int
    login: str
    password: str

    @property
    def url(self) -> str:
        return f"imap://127.0.0.1:{self.port}"

    def add(self, name: str, data: bytes, at: datetime) -> None:
        """Put a message into a folder, made if it is not there; its name in modified UTF-7."""
        with self.sign_in() as box:
            box.create(f'"{name}"')
            typ, told = box.append(
                f'"{name}"', "", imaplib.Time2Internaldate(at.astimezone(UTC)), data
            )
            assert typ == "OK", told

    @contextlib.contextmanager
    def sign_in(self) -> Iterator[imaplib.IMAP4]:
        with imaplib.IMAP4("127.0.0.1", self.port) as box:
            box.login(self.login, self.password)
            yield box

    def administer(self, *words: str) -> None:
        command = [str(find_program("doveadm")), "-c", str(self.folder / "conf"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def start_dovecot(login: str, password: str) -> Iterator[Dovecot]:
    """A fresh server; stopped on the way out. As root it reads mail as nobody: it must not else."""
    folder = Path(tempfile.mkdtemp(prefix="hearback-dovecot-"))
    folder.chmod(0o755)
    is_root = os.geteuid() == 0
    mail = pwd.getpwnam("nobody" if is_root else getpass.getuser())
    for name in ("mail", "home"):
        (folder / name).mkdir()
        os.chown(folder / name, mail.pw_uid, mail.pw_gid)
    (folder / "users").write_text(f"{login}:{{PLAIN}}{password}\n")
    internal = pwd.getpwnam("dovenull" if is_root else getpass.getuser())
    port = find_free_port(None)
    config = CONFIG.format(
        folder=folder, port=port, uid=mail.pw_uid, gid=mail.pw_gid, internal=internal.pw_name,
        group="dovenull" if is_root else internal.pw_name,
    )  # fmt: skip
    (folder / "conf").write_text(config)
    process = subprocess.Popen(
        [str(find_program("dovecot")), "-F", "-c", str(folder / "conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    server = Dovecot(folder, port, login, password)
    try:
        wait_for_answer(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder)


def wait_for_answer(server: Dovecot) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            with server.sign_in():
                return
        except (OSError, imaplib.IMAP4.error):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
