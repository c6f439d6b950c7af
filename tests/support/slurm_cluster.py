"""A real Slurm of one node that lives in a temporary directory as long as a test needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 60.0
"""seconds in which the cluster comes up, or what is waited for happens"""


def lacking() -> str:
    """Why there can be no cluster here, empty if there can."""
    # what Debian puts into sbin may not be on a user's path
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "a Slurm of its own needs root"
    try:
        pwd.getpwnam("munge")
    except KeyError:
        return "there is no user munge"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Cluster:
    """Starts munged, slurmctld and slurmd; when the block ends, nothing of them or of their jobs is left.

    Commands find it by ``SLURM_CONF``, see `environment`.
    """

    def __init__(self, cpus: int = 2) -> None:
        self.cpus = cpus
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        # a short path, which everybody may enter: a socket's name is short, and munged is another user
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        try:
            self._munge()
            self._configure()
            self._start("slurmctld", "-D", "-i")
            self.start_node()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @property
    def environment(self) -> dict[str, str]:
        """What commands that use the cluster need."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """What a command of Slurm prints; empty while the controller is away."""
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment})
        return done.stdout

    def until(self, reached: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds:g} s: {what}\n{self.logs()}")
            time.sleep(0.05)

    def queue(self) -> list[str]:
        """The tasks in the queue, a line each: job, index, state, name."""
        return self.call("squeue", "-h", "-r", "-o", "%F %K %T %j").splitlines()

    def logs(self) -> str:
        """The last lines of the daemons' logs and the queue, to be shown where a test fails."""
        tails = [f"{p.name}:\n" + "\n".join(_lines(p)[-30:]) for p in sorted(self.folder.glob("*.log"))]
        return "\n".join([*tails, self.call("squeue", "-r"), self.call("sinfo", "-R", "-l")])

    def start_node(self) -> None:
        """Start slurmd, at first or after `fail_node`."""
        self._start("slurmd", "-D", "-N", "node")
        self.until(self._idle, "the node is idle")

    def _idle(self) -> bool:
        return self.call("sinfo", "-h", "-o", "%T").strip() == "idle"

    def fail_node(self) -> None:
        """What a power cut does to a node: all its processes are gone at once."""
        node = self._running.pop("slurmd")
        dying = [psutil.Process(node.pid), *self._steps()]
        for process in dying:
            with suppress(psutil.Error):
                process.suspend()  # none starts another one, or reports of it, while they are killed
        _kill([*dying, *self._steps()])
        node.wait(timeout=PATIENCE)
        # what the controller finds by itself once SlurmdTimeout is over
        self.call("scontrol", "update", "NodeName=node", "State=DOWN", "Reason=power")

    def _steps(self) -> list[psutil.Process]:
        """The processes of jobs, and the daemon above each of their steps."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "slurmstepd":
                    # it writes its state over its environment; its log tells whose it is
                    mine = any(file.path.startswith(f"{self.folder}/") for file in process.open_files())
                else:
                    told = process.environ()
                    mine = "SLURM_JOB_ID" in told and told.get("SLURM_CONF") == f"{self.folder}/slurm.conf"
                if mine:
                    found.append(process)
        return found

    def _munge(self) -> None:
        """The service by which the others know each other."""
        user = pwd.getpwnam("munge")
        home = self.folder / "munge"
        home.mkdir()
        (home / "key").write_bytes(os.urandom(128))
        (home / "key").chmod(0o400)
        for path in (home, home / "key"):
            os.chown(path, user.pw_uid, user.pw_gid)
        home.chmod(0o755)
        self._socket = home / "socket"
        files = [f"--{what}-file={home / what}" for what in ("key", "pid", "seed")]
        self._start(
            "munged", "--foreground", f"--socket={self._socket}", *files, f"--log-file={home / 'munged.log'}",
            user="munge",
        )  # fmt: skip
        self.until(self._socket.exists, "munged listens")

    def _configure(self) -> None:
        # a job that was queued again waits until its credentials have expired: after seconds, not minutes
        control, node = _free_ports(2)
        host = socket.gethostname().split(".")[0]
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        text = f"""
            ClusterName=test
            SlurmctldHost={host}(127.0.0.1)
            SlurmctldPort={control}
            SlurmUser=root
            SlurmdUser=root
            AuthType=auth/munge
            AuthInfo=socket={self._socket},cred_expire=5
            CredType=cred/munge
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_Core
            ReturnToService=2
            KillWait=20
            MessageTimeout=30
            SchedulerParameters=sched_interval=2,batch_sched_delay=0,requeue_setup_env_fail
            MpiDefault=none
            StateSaveLocation={self.folder}/state
            SlurmdSpoolDir={self.folder}/spool
            SlurmctldLogFile={self.folder}/slurmctld.log
            SlurmdLogFile={self.folder}/slurmd.log
            SlurmctldPidFile={self.folder}/slurmctld.pid
            SlurmdPidFile={self.folder}/slurmd.pid
            NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs={self.cpus} State=UNKNOWN
            PartitionName=main Nodes=node Default=YES MaxTime=60 State=UP
        """
        (self.folder / "slurm.conf").write_text("\n".join(line.strip() for line in text.splitlines()))

    def _start(self, name: str, *options: str, user: str | None = None) -> None:
        program = _program(name)
        assert program
        with open(self.folder / f"{name}.out.log", "ab") as output:
            self._running[name] = subprocess.Popen(
                [program, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=user,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def _stop(self) -> None:
        self.call("scancel", "--full", "--signal=KILL", "--me")
        for name in ("slurmctld", "slurmd", "munged"):
            if name in self._running:
                self._running[name].send_signal(signal.SIGKILL if name != "munged" else signal.SIGTERM)
                self._running[name].wait(timeout=PATIENCE)
        _kill(self._steps())
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(processes: list[psutil.Process]) -> None:
    """End processes at once, and wait until nothing of them runs."""
    for process in dict.fromkeys(processes):
        with suppress(psutil.Error):
            process.kill()
    end = time.monotonic() + PATIENCE
    while any(_runs(process) for process in processes) and time.monotonic() < end:
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    """Whether a process does anything; what nobody has asked for its status does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
