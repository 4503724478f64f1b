"""Whatever happens to the verifier's processes, or to who asks them, a question never gets another one's
answer.
"""

import os
import random
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gmpo_vl.verify import workers
from gmpo_vl.verify.workers import Question, Worker, ask_math_verify, stop_workers

PATIENCE = 3600.0  # seconds: a loaded machine is no stuck worker
EQUAL, DIFFERENT = Question("1/2", "0.5", PATIENCE), Question("1/2", "0.6", PATIENCE)
FAULTS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/worker_faults.py"))


Interrupted, interrupted_at_line = FAULTS["Interrupted"], FAULTS["interrupted_at_line"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.stop()


@pytest.fixture
def worker(shared) -> Worker:
    """One that has answered before; the tests share it, since it takes a second to start."""
    assert shared.ask(EQUAL) == "equal"
    return shared


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Nothing is remembered, and no pool is left."""
    FAULTS["forget"]()
    yield
    stop_workers()


def test_every_verdict_is_the_undisturbed_one_or_a_time_out():
    """Kills, stops and interrupts at random moments; by hand, the campaign asks thousands of questions."""
    often = FAULTS["Faults"](answerer=0.05, worker=3.0, interrupt=0.02)
    counts, sent = FAULTS["campaign"](FAULTS["questions"](40, random.Random(0)), often, seed=0)
    assert (counts["wrong"], counts["left"]) == (0, 0), (counts, sent)
    assert counts["answered"] + counts["timeout"] == 40


def test_an_interrupt_at_any_line_leaves_the_next_question_its_own_answer():
    ask_math_verify([EQUAL], 1)
    number, ended = 0, False
    while not ended:
        number += 1
        workers._decided.clear()
        with interrupted_at_line(number):
            try:
                ask_math_verify([EQUAL], 1)
                ended = True
            except Interrupted:
                pass
        assert ask_math_verify([DIFFERENT], 1) == ["different"]
        workers._decided.pop(EQUAL[:2], None)
        assert ask_math_verify([EQUAL], 1) == ["equal"]
    assert number > 20


def test_an_interrupt_inside_a_worker_at_any_part_of_a_question(worker):
    """As above, below the pool; each costs a new worker, so at two lines only. By hand: at all of them."""
    with interrupted_at_line(0) as lines:
        worker.ask(EQUAL)
    for number in random.Random(0).sample(range(1, lines()), 2):
        with interrupted_at_line(number), pytest.raises(Interrupted):
            worker.ask(EQUAL)
        assert [worker.ask(q) for q in (DIFFERENT, EQUAL, DIFFERENT)] == ["different", "equal", "different"]


def test_a_killed_answerer_is_replaced_and_the_question_asked_again(worker):
    for sent in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        answerer, process = worker.answerer, worker.process
        os.kill(answerer, sent)
        assert [worker.ask(DIFFERENT), worker.ask(EQUAL)] == ["different", "equal"]
        assert worker.answerer != answerer
        assert worker.process is process


def test_what_is_left_in_the_pipes_is_no_answer(worker):
    """A question whose asker has gone, half a question, and a new answerer's call."""
    stdin = worker.process.stdin.fileno()
    os.write(stdin, b'\n{"number": 900, "gold": "1", "answer": "1"}\n[1]\n{"number": 901, "gold": "1", "ans')
    assert worker.ask(DIFFERENT) == "different"
    os.kill(worker.answerer, signal.SIGKILL)
    assert worker.ask(DIFFERENT) == "different"
    assert worker.ask(EQUAL) == "equal"


def test_a_stopped_process_holds_nobody_up(worker):
    """The answerer with more to read than a pipe holds; and its parent, which then cannot tell that the
    answerer ended.
    """
    large = Question("3+x", f"x+3\\text{{{200_000 * 'a'}}}", 0.2)
    os.kill(worker.answerer, signal.SIGSTOP)
    assert worker.reply(large) == "lost"
    assert worker.ask(large._replace(deadline=PATIENCE)) == "equal"
    os.kill(worker.process.pid, signal.SIGSTOP)
    os.kill(worker.answerer, signal.SIGSTOP)
    assert worker.reply(EQUAL._replace(deadline=0.2)) == "lost"
    assert worker.ask(DIFFERENT) == "different"


def test_a_worker_that_is_killed_or_stopped_while_it_starts_starts_again(monkeypatch):
    worker, start = Worker(), subprocess.Popen
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]  # SIGINT is ignored in a background job

    def start_and_disturb(*arguments, **options):
        process = start(*arguments, **options)
        if signals:
            process.send_signal(signals.pop(0))
        return process

    monkeypatch.setattr(subprocess, "Popen", start_and_disturb)
    assert worker.ask(EQUAL) == "equal"
    assert signals == []
    worker.stop()


def test_a_question_that_was_disturbed_is_not_remembered_as_late(monkeypatch):
    ask_math_verify([DIFFERENT], 1)
    [pool_worker] = workers._pools[1]._workers
    exchange, stopped = pool_worker._exchange, [True] * 7

    def exchange_or_stop(question):
        if not stopped.pop():
            return exchange(question)
        answerer = psutil.Process(pool_worker.answerer)
        answerer.suspend()
        while answerer.status() != psutil.STATUS_STOPPED:
            pass
        return pool_worker._replace()

    monkeypatch.setattr(pool_worker, "_exchange", exchange_or_stop)
    for _ in range(3):  # the next answerer is asked, and stopped as well
        assert ask_math_verify([EQUAL], 1) == ["timeout"]
    stopped.insert(0, False)
    assert ask_math_verify([EQUAL], 1) == ["equal"]


def test_a_handler_may_ask_while_its_thread_is_asking():
    said = []
    former = signal.signal(signal.SIGALRM, lambda *_: said.extend(ask_math_verify([DIFFERENT], 1)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        late = Question("x^{99998}", "(x+1)^{99999}", 0.5)
        assert ask_math_verify([late], 1) == ["timeout"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert said == ["different"]


def test_stopping_the_workers_leaves_no_process_and_no_asker_behind():
    said: list[str] = []
    before = FAULTS["processes"]()[0]
    late = [Question(f"x^{{9999{i}}}", "(x+1)^{99999}", PATIENCE) for i in range(3)]
    asking = threading.Thread(target=lambda: said.extend(ask_math_verify(late, 1)))
    asking.start()
    while not any(worker.answerer for pool in workers._pools.values() for worker in pool._workers):
        pass
    stop_workers()
    asking.join()
    assert said == ["timeout"] * 3
    assert FAULTS["processes"]()[0] == before
    assert ask_math_verify([EQUAL], 1) == ["equal"]


@pytest.mark.parametrize("who", ["answerer", "program", "both"])
def test_stopping_waits_for_no_stopped_process(who):
    before = FAULTS["processes"]()[0]
    late = [Question("x^{99998}", "(x+1)^{99999}", PATIENCE)]
    assert ask_math_verify([EQUAL], 1) == ["equal"]
    [pool_worker] = workers._pools[1]._workers
    for name, process in (("answerer", pool_worker.answerer), ("program", pool_worker.process.pid)):
        if who in (name, "both"):
            os.kill(process, signal.SIGSTOP)
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.extend(ask_math_verify(late, 1)))
    asking.start()
    while pool_worker._number < 2:  # until it was asked
        pass
    stop_workers()
    asking.join()
    assert said == ["timeout"]
    assert FAULTS["processes"]()[0] == before


def test_stopping_waits_for_no_worker_that_is_starting(monkeypatch):
    before = FAULTS["processes"]()[0]
    monkeypatch.setattr(workers, "command_of", lambda _module: ["sleep", str(PATIENCE)])
    asking = threading.Thread(target=ask_math_verify, args=([EQUAL], 1))
    asking.start()
    while not any(worker.process for pool in workers._pools.values() for worker in pool._workers):
        pass
    stop_workers()
    asking.join()
    assert FAULTS["processes"]()[0] == before


def test_stopping_waits_for_no_thread_for_ever(monkeypatch):
    """It returns, though the thread does not."""
    asked, end = threading.Event(), threading.Event()
    monkeypatch.setattr(workers, "_END", 0.3)
    monkeypatch.setattr(Worker, "reply", lambda *_: asked.set() or (end.wait() and "lost"))
    asking = threading.Thread(target=ask_math_verify, args=([EQUAL], 1))
    asking.start()
    asked.wait()
    [pool] = workers._pools.values()
    stop_workers()
    assert pool._ended.empty()
    end.set()
    asking.join()
    pool._ended.get()


def test_a_worker_that_cannot_start_is_told():
    broken = Worker()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workers, "command_of", lambda module: [sys.executable, "-c", "raise SystemExit(1)"])
        with pytest.raises(RuntimeError, match="did not start"):
            broken.ask(EQUAL)
    assert broken.ask(EQUAL) == "equal"
    broken.stop()
