"""What is kept of an answer on its way through, and what is given back."""

from proxy.rollout.capture import Capture, Room


def test_chunks_are_kept_as_they_came() -> None:
    room = Room(100)
    capture = Capture(room, limit_bytes=50)
    capture.begin(200, " GZIP")
    chunks = [b"one", b"", b"two"]
    for chunk in chunks:
        capture.add(chunk)
    assert capture.lack == "cut_off"
    capture.end()
    assert all(kept is sent for kept, sent in zip(capture.chunks, chunks, strict=True))
    assert (capture.coding, capture.lack, capture.size) == ("gzip", "", 6)
    assert repr(capture) == "<Capture 6 bytes whole>"
    assert repr(room) == "<Room 6 of 100 bytes>"


def test_what_is_given_back_is_given_back_once() -> None:
    room = Room(100)
    other = Capture(room, limit_bytes=50)
    other.begin(200, "")
    other.add(b"1")
    capture = Capture(room, limit_bytes=50)
    capture.begin(200, "")
    capture.add(b"23")
    capture.free()
    capture.free()
    assert (room.used_bytes, capture.chunks) == (1, [])


def test_an_answer_longer_than_it_may_be_is_let_go_at_once() -> None:
    room = Room(100)
    capture = Capture(room, limit_bytes=5)
    capture.begin(200, "")
    capture.add(b"12345")
    capture.add(b"6")
    assert (room.used_bytes, capture.lack) == (0, "too_long")
    capture.add(b"7")
    capture.end()
    assert (capture.chunks, capture.lack) == ([], "too_long")


def test_all_answers_together_have_the_room_that_there_is() -> None:
    room = Room(5)
    assert room.take(3)
    capture = Capture(room, limit_bytes=100)
    capture.begin(200, "")
    capture.add(b"12")
    capture.add(b"3")
    assert (room.used_bytes, capture.lack) == (3, "too_long")


def test_only_a_whole_200_is_an_answer() -> None:
    capture = Capture(Room(100), limit_bytes=50)
    assert capture.lack == "no_answer"
    capture.end()
    assert capture.lack == "no_answer"
    for status, lack in ((206, "refused"), (401, "refused"), (500, "legacy_error")):
        capture.begin(status, "")
        capture.add(b"x")
        capture.end()
        assert (capture.lack, capture.chunks) == (lack, [])
