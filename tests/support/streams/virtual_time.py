"""What a test's observable emits and when it is subscribed to, in virtual time."""

from reactivex.testing import ReactiveTest

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed
subscribe = ReactiveTest.subscribe
