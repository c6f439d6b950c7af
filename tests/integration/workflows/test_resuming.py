"""Which checkpoint a run resumes from, and what it takes to be the same run afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

from hf_lgt import ConfigError, train
from hf_lgt.checkpointing.checkpoints import list_checkpoints, prune, verify
from hf_lgt.checkpointing.open_run import _agreed
from hf_lgt.checkpointing.resume import newest
from hf_lgt.checkpointing.run_folder import RUN
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.utils import signals as interrupts
from hf_lgt.utils.signals import Interrupted, Signals, ended_by_sigterm
from tests.conftest import TINY
from tests.integration.workflows.test_train import same_numbers, snapshot, timeless


@pytest.fixture
def interrupted(tiny, tiny_run):
    """The config of a run that was killed after its checkpoint of step 6."""
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    shutil.rmtree(config.run_dir / "model")
    shutil.rmtree(config.run_dir / "checkpoints/step-000012")
    return config


def damage(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def faults_of(config, **settings):
    with pytest.raises(ConfigError) as caught:
        train(config, progress=False, **settings)
    return "\n".join(caught.value.faults)


def test_never_refuses_to_go_on_and_changes_nothing(interrupted):
    before = snapshot(interrupted.run_dir)
    assert "'never' does not resume it" in faults_of(interrupted, resume="never")
    assert snapshot(interrupted.run_dir) == before


def test_never_begins_where_there_is_nothing_to_go_on_with(tiny, tiny_run):
    assert same_numbers(train(tiny(), resume="never", progress=False).run_dir, tiny_run)


@pytest.mark.parametrize("named", ["checkpoints/step-000006", "."])
def test_a_checkpoint_of_the_run_itself_can_be_named(interrupted, tiny_run, named, news):
    train(interrupted, resume=interrupted.run_dir / named, progress=False)
    assert "resumes from step 6" in news[-1]
    assert same_numbers(interrupted.run_dir, tiny_run)


def test_a_checkpoint_of_another_run_is_gone_on_with_under_a_new_name(tiny, tiny_run, news):
    config, before = tiny("name=branch"), snapshot(tiny_run)
    train(config, resume=tiny_run / "checkpoints/step-000006", progress=False)
    assert news == [f"begins with {tiny_run / 'checkpoints/step-000006'}, at step 6"]
    assert same_numbers(config.run_dir, tiny_run), "the logs up to the checkpoint are taken over too"
    assert snapshot(tiny_run) == before


def test_a_checkpoint_of_another_config_is_refused_with_what_differs(tiny, tiny_run):
    told = faults_of(tiny("name=branch", "train.steps=13", "seed.data=1"), resume=tiny_run)
    assert "train.steps was 12, now 13" in told
    assert "seed.data was 0, now 1" in told


def test_a_run_that_is_there_is_not_mixed_with_a_checkpoint_of_another(interrupted, tiny_run):
    assert "holds a run already" in faults_of(interrupted, resume=tiny_run / "checkpoints/step-000006")


def test_overwrite_does_not_remove_the_checkpoint_that_is_named(interrupted):
    before = snapshot(interrupted.run_dir)
    told = faults_of(interrupted, resume=interrupted.run_dir / "checkpoints/step-000006", overwrite=True)
    assert "which --overwrite removes" in told
    assert snapshot(interrupted.run_dir) == before


def test_overwrite_does_not_remove_a_run_within_the_run_whose_checkpoint_is_named(interrupted):
    copy = interrupted.run_dir / "old"
    shutil.copytree(interrupted.run_dir, interrupted.run_dir.with_name("copy"))
    interrupted.run_dir.with_name("copy").rename(copy)
    before = snapshot(interrupted.run_dir)
    told = faults_of(interrupted, resume=copy / "checkpoints/step-000006", overwrite=True)
    assert "which --overwrite removes" in told
    assert snapshot(interrupted.run_dir) == before


@pytest.mark.parametrize("own", [True, False])
def test_a_command_that_names_a_checkpoint_can_be_given_again(tiny, tiny_run, monkeypatch, own, news):
    config, origin = tiny(), tiny_run
    if own:
        shutil.copytree(tiny_run, config.run_dir)
        shutil.rmtree(config.run_dir / "model")
        origin = config.run_dir
    path = origin / "checkpoints/step-000006"
    with monkeypatch.context() as patch:
        send_at(patch, 8, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config, resume=path, progress=False)
    if own:
        shutil.rmtree(path)  # as train.keep_last may
    train(config, resume=path, progress=False)
    assert "resumes from step 9" in news[-1]
    assert same_numbers(config.run_dir, tiny_run)


def test_a_branch_of_a_run_begins_however_often_it_is_killed_while_it_begins(tiny, tiny_run, monkeypatch):
    import hf_lgt.checkpointing.open_run

    config, write = tiny(), hf_lgt.checkpointing.open_run.write_text

    def killed(file, text):
        write(file, text)
        if file.name == "environment.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hf_lgt.checkpointing.open_run.write_text", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(config, resume=tiny_run, progress=False)
            assert json.loads((config.run_dir / "resumed.json").read_text())["given"] == str(tiny_run)
    train(config, resume=tiny_run, progress=False)
    assert same_numbers(config.run_dir, tiny_run)


@pytest.mark.parametrize("command", ["again", "auto"])
@pytest.mark.parametrize("killed_at", ["resumed.json", "config.yaml", "environment.json", "train.jsonl"])
def test_a_branch_that_was_killed_while_it_began_begins_there_again(
    tiny, tiny_run, monkeypatch, killed_at, command
):
    import hf_lgt.checkpointing.open_run
    import hf_lgt.utils.jsonl

    config, path = tiny(), tiny_run / "checkpoints/step-000006"
    write = hf_lgt.checkpointing.open_run.write_text

    def killed(file, text):
        write(file, text)
        if file.name == killed_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for module in (hf_lgt.checkpointing.open_run, hf_lgt.utils.jsonl):
            patch.setattr(module, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, resume=path, progress=False)
    if killed_at == "resumed.json" and command == "auto":
        return  # nothing of the run is there yet
    train(config, resume=path if command == "again" else "auto", progress=False)
    assert timeless(config.run_dir) == timeless(tiny_run)
    assert sorted(p.name for p in (config.run_dir / "checkpoints").iterdir()) == ["step-000012"], (
        "from step 6"
    )


def test_overwrite_follows_a_link_to_another_disk(tiny, tiny_run, tmp_path):
    config = tiny()
    shutil.copytree(tiny_run, tmp_path / "disk/run")
    config.run_dir.parent.mkdir()
    config.run_dir.symlink_to(tmp_path / "disk/run")
    train(config, overwrite=True, progress=False)
    assert config.run_dir.is_symlink()
    assert same_numbers(tmp_path / "disk/run", tiny_run)
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["run"]


def test_a_config_of_the_run_that_was_cut_is_reported_by_its_file(interrupted):
    file = interrupted.run_dir / "config.yaml"
    file.write_text(file.read_text()[:20])
    for overwrite in (False, True):
        assert faults_of(interrupted, overwrite=overwrite).startswith(str(file))


def test_processes_that_see_different_folders_are_reported():
    seen = [([], 6), ([], 0)]
    assert "they would resume from steps 6, 0" in _agreed("runs/x", seen)[0]
    assert _agreed("runs/x", [([], 6), (["name: taken"], 0)]) == ["name: taken"], "also of one process alone"
    assert _agreed("runs/x", [([], 6), ([], 6)]) == []


def test_paths_that_are_no_checkpoint_are_reported(tiny, tiny_run, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("nothing", "loop", "a\0b"):
        assert "does not exist" in faults_of(tiny(), resume=f"{tmp_path}/{name}")
    assert "is no checkpoint of a run" in faults_of(tiny(), resume=tiny_run / "model")
    shutil.copytree(tiny_run, tmp_path / "copy")
    damage(tmp_path / "copy/checkpoints/step-000006/optimizer.pt")
    told = faults_of(tiny(), resume=tmp_path / "copy/checkpoints/step-000006")
    assert "optimizer.pt changed since it was written" in told
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("name", ["train.jsonl", "eval.jsonl"])
@pytest.mark.parametrize("harm", ["shorter", "garbage"])
def test_a_log_that_lacks_lines_of_a_checkpoint_takes_the_run_back_before_it(
    tiny, tiny_run, name, harm, news
):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    shutil.rmtree(config.run_dir / "model")
    log = config.run_dir / name
    lines = log.read_text().splitlines(keepends=True)
    kept = RUN_LINES_AT_6[name]
    log.write_text("".join([*lines[:kept], "{}\n"] if harm == "garbage" else lines[:kept]))
    train(config, progress=False)
    assert name in news[0]
    assert "resumes from step 6" in news[-1]
    assert same_numbers(config.run_dir, tiny_run)


RUN_LINES_AT_6 = {"train.jsonl": 2, "eval.jsonl": 0}


def test_whole_checkpoints_are_not_given_up_for_a_lost_log(interrupted):
    (interrupted.run_dir / "train.jsonl").unlink()
    before = snapshot(interrupted.run_dir)
    told = faults_of(interrupted)
    assert "train.jsonl has 0 lines; at step 6 there were 2" in told
    assert "restore the log" in told
    assert snapshot(interrupted.run_dir) == before


def test_a_checkpoint_that_counts_no_log_lines_is_gone_on_with_by_their_steps(interrupted, tiny_run):
    """As earlier versions wrote them: after the evaluation of their step."""
    path = interrupted.run_dir / "checkpoints/step-000006"
    state = json.loads((path / "state.json").read_text())
    del state["logs"]
    (path / "state.json").write_text(json.dumps(state) + "\n")
    manifest = json.loads((path / "manifest.json").read_text())
    from hf_lgt.utils.atomic_io import sha256

    manifest["state.json"] = sha256(path / "state.json")
    (path / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    train(interrupted, progress=False)
    assert same_numbers(interrupted.run_dir, tiny_run)


def test_what_killed_writers_left_is_cleared(interrupted, tiny_run):
    folder = interrupted.run_dir
    for name in (".model.12-0123abcd", "checkpoints/.step-000012.12-0123abcd"):
        (folder / name).mkdir()
        (folder / name / "half").write_text("x")
    (folder / ".config.12-0123abcd.yaml").write_text("x")
    (folder / ".kept").write_text("of the user")
    train(interrupted, progress=False)
    assert [p.name for p in folder.rglob(".*")] == [".kept"]
    assert same_numbers(folder, tiny_run)


def test_a_folder_in_which_nothing_was_finished_is_no_obstacle(tiny, tiny_run):
    config = tiny()
    config.run_dir.mkdir(parents=True)
    (config.run_dir / ".config.12-0123abcd.yaml").write_text("half a con")
    assert same_numbers(train(config, progress=False).run_dir, tiny_run)


def test_keep_last_keeps_the_newest(tiny, tiny_run):
    run_dir = train(tiny("train.save_every=1", "train.keep_last=3"), progress=False).run_dir
    assert [step for step, _ in list_checkpoints(run_dir)] == [10, 11, 12]


def test_damaged_checkpoints_are_not_counted_among_those_to_keep(tiny):
    run_dir = train(tiny("train.save_every=2"), progress=False).run_dir
    paths = dict(list_checkpoints(run_dir))
    for step in (8, 12):
        damage(paths[step] / "model.safetensors")
    prune(run_dir, 12, 2, set())
    assert [step for step, _ in list_checkpoints(run_dir)] == [6, 8, 10, 12], "10 and 6 are whole"
    damage(paths[10] / "model.safetensors")
    prune(run_dir, 12, 1, set())
    assert [step for step, _ in list_checkpoints(run_dir)] == [6, 8, 10, 12]
    verify(paths[6])
    assert newest(run_dir, RUN.logs).step == 6


def test_a_run_that_goes_back_keeps_what_it_can_go_on_from(tiny, tiny_run, monkeypatch, news):
    settings = ["train.save_every=2", "train.keep_last=2"]
    config = tiny(*settings)
    train(config, progress=False)
    shutil.rmtree(config.run_dir / "model")
    back = config.run_dir / "checkpoints/step-000010"
    with monkeypatch.context() as patch:
        send_at(patch, 10, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config, resume=back, progress=False)
    assert [step for step, _ in list_checkpoints(config.run_dir)] == [10, 11, 12]
    train(config, progress=False)
    assert "resumes from step 11" in news[-1], "the logs are not yet as far as the checkpoint of step 12 says"
    assert same_numbers(config.run_dir, tiny_run)


@pytest.fixture(autouse=True)
def heeds_sigint():
    """A job in the background may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send_at(monkeypatch, step, number):
    """Let this process get a signal while it makes the batch of a step."""
    batch = GeneratedSource.batch

    def signalled(self, at):
        if at == step:
            os.kill(os.getpid(), number)
        return batch(self, at)

    monkeypatch.setattr(GeneratedSource, "batch", signalled)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_the_run_goes_on_to_the_same_bits(
    tiny, tiny_run, monkeypatch, number, status
):
    config = tiny()
    with monkeypatch.context() as patch:
        send_at(patch, 7, number)
        with pytest.raises(Interrupted, match="after step 8 of 12, with a checkpoint") as caught:
            train(config, progress=False)
    assert caught.value.status == status
    assert [step for step, _ in list_checkpoints(config.run_dir)] == [6, 8]
    assert [line["step"] for line in timeless(config.run_dir)] == [1, 4, 8]
    train(config, progress=False)
    assert same_numbers(config.run_dir, tiny_run)


def test_a_signal_while_evaluating_puts_the_evaluation_off(tiny, tiny_run, monkeypatch):
    import hf_lgt.workflows.train as running

    config, evaluate = tiny("train.save_every=null"), running.evaluate_tests

    def signalled(*args, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(running, "evaluate_tests", signalled)
        with pytest.raises(Interrupted, match="after step 6"):
            train(config, progress=False)
    assert not (config.run_dir / "eval.jsonl").exists()
    train(config, progress=False)
    assert same_numbers(config.run_dir, tiny_run)


def test_another_ctrl_c_does_not_wait():
    now = [100.0]
    with Signals(clock=lambda: now[0]) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 1
        os.kill(os.getpid(), signal.SIGINT)  # as a launcher hands it on
        assert signals.received == signal.SIGINT
        now[0] += 5
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_ends_a_recipe_with_its_cleaning_up():
    cleaned = []
    with pytest.raises(Interrupted) as caught, ended_by_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass
        finally:
            cleaned.append(True)
    assert (caught.value.status, cleaned) == (143, [True])


def test_a_forked_process_is_ended_by_sigterm_alone():
    """As those of a pool are, which must not clean up for the process that has it."""
    code = """
import os, signal, time
from hf_lgt.utils.signals import Signals, ended_by_sigterm
for block in (ended_by_sigterm(), Signals()):
    with block:
        ends = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(ends[1], b"x")
            time.sleep(30)
            os._exit(0)
        os.read(ends[0], 1)
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("-15\n-15\n", "")


def test_a_run_stops_with_the_command_that_started_it(monkeypatch):
    monkeypatch.setattr(interrupts, "LOOK_SECONDS", 0.01)
    monkeypatch.setenv(interrupts.PARENT, str(os.getppid()))
    with ended_by_sigterm():
        time.sleep(0.1)
    monkeypatch.setenv(interrupts.PARENT, "1234567890")
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), ended_by_sigterm():
        time.sleep(10)


def test_an_orphan_of_its_launcher_stops(tmp_path, root):
    """`accelerate launch` of one process hands SIGTERM on to nobody."""
    options = [f"--{o}" for o in [*TINY, f"output_dir={tmp_path}", "train.steps=100000"]]
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    recipe = str(root / "recipes/finetune.py")
    log = tmp_path / "tiny/seed-0/train.jsonl"
    with open(tmp_path / "out", "w") as out, started([*launch, recipe, *options], out) as launcher:
        wait_for(lambda: log.is_file() and log.stat().st_size > 0)
        launcher.terminate()
        launcher.wait(timeout=30)
        wait_for(lambda: "stopped after step" in (tmp_path / "out").read_text())
    step = int((tmp_path / "out").read_text().split("stopped after step ")[1].split()[0])
    assert newest(tmp_path / "tiny/seed-0", RUN.logs).step == step
    size = log.stat().st_size
    time.sleep(0.5)
    assert log.stat().st_size == size


def test_a_comparison_that_is_stopped_stops_its_runs(tmp_path, root):
    options = [f"--{option}" for option in TINY if not option.startswith("name=")]
    options += [f"--output_dir={tmp_path}", "--train.steps=100000"]
    words = [str(root / "recipes/compare.py"), str(root / "recipes/demo"), "--seeds", "0", "--jobs", "2"]
    logs = [tmp_path / name / "seed-0/train.jsonl" for name in ("demo-transfer", "demo-target-alone")]
    with started([*words, *options], subprocess.DEVNULL) as compare:
        wait_for(lambda: all(log.is_file() and log.stat().st_size > 0 for log in logs))
        compare.terminate()
        assert compare.wait(timeout=60) == 143
    for arm in ("transfer", "target_alone"):
        assert "stopped after step" in (tmp_path / f"demo/logs/{arm}-seed-0.log").read_text()
    assert not (tmp_path / "demo/logs/control-seed-0.log").exists(), "which had not begun"


@contextmanager
def started(words, out):
    """A process with children that end with the block, whatever happens in it."""
    process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.learning_rate=0"], "train.learning_rate: is 0"),
        (["mixture.1.weight=1e-6"], "mixture.1.weight: auxiliary capitalize is never drawn"),
        (["eval.lengths=[1,8]"], "eval.lengths: [1, 8] has none beyond those that capitalize_reverse"),
    ],
)
def test_settings_that_show_nothing_are_warned_of_at_the_start(tiny, overrides, told, news):
    train(tiny("train.steps=1", "train.warmup=0", *overrides), progress=False)
    assert [line.startswith(told) for line in news] == [True]
