"""Head and body of an answer leave in one write, in order, and nothing is lost at the end."""

from collections.abc import Callable

from llmproxy_site.joined_writes import JoiningTransport

ALONE = ["this request"]


class Socket:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False
        self.peer = "client"

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Turn:
    """The event loop's next turn."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def pass_(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


def test_what_is_written_in_one_turn_leaves_in_one_write():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    transport.write(b"head, ")
    transport.write(b"body")
    assert socket.writes == []
    turn.pass_()
    assert socket.writes == [b"head, body"]


def test_later_turns_write_again():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    for piece in (b"one", b"two"):
        transport.write(piece)
        turn.pass_()
    assert socket.writes == [b"one", b"two"]


def test_more_than_a_socket_takes_is_not_held():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    pieces = [b"head", b"x" * 100_000, b"tail"]
    for piece in pieces:
        transport.write(piece)
    assert b"".join(socket.writes) == b"".join(pieces[:2])
    turn.pass_()
    assert b"".join(socket.writes) == b"".join(pieces)


def test_closing_writes_what_is_held_first():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    transport.write(b"last")
    transport.close()
    turn.pass_()
    assert (socket.writes, socket.closed) == ([b"last"], True)


def test_a_connection_that_is_gone_is_not_written_to():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    transport.write(b"late")
    socket.close()
    turn.pass_()
    assert socket.writes == []


def test_everything_else_is_the_transports_own():
    assert JoiningTransport(Socket(), Turn().call_soon, ALONE).peer == "client"


def test_the_end_of_an_answer_does_not_wait_for_the_turn():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ALONE)
    transport.write(b"one, ")
    transport.finish(b"two")
    transport.finish(b"three")
    assert socket.writes == [b"one, two", b"three"]
    turn.pass_()
    assert socket.writes == [b"one, two", b"three"]


def test_where_others_are_answered_too_it_leaves_with_theirs():
    socket, turn = Socket(), Turn()
    transport = JoiningTransport(socket, turn.call_soon, ["this request", "another"])
    transport.finish(b"answer")
    assert socket.writes == []
    turn.pass_()
    assert socket.writes == [b"answer"]
