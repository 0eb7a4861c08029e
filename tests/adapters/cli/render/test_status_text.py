"""The hub's answer as lines."""

import datetime

from wakestream.adapters.cli.render import status_text
from wakestream.streams.protocol import messages as m

SPAN = {"on_s": 3600, "of_s": 7200, "cost": 1.2, "saved": 1.2}
GPU = {
    "gpu": "studio", "phase": "off", "price_per_hour": 1.2, "known_since": 1_795_500_000,
    "today": SPAN, "month": SPAN, "all": SPAN,
}  # fmt: skip


def test_budgets_say_what_is_left_and_when_they_begin_again() -> None:
    until = int(datetime.datetime(2026, 3, 11).timestamp())
    day = {"period": "day", "limit": 2.0, "spent": 2.1, "left": 0.0, "until": until}
    month = {"period": "month", "gpu": "studio", "limit": 30.0, "spent": 12.5, "left": 17.5, "until": until}
    answer = m.HubStatus(request_id="q", currency="EUR", budgets=(day, month))
    assert status_text.budgets(answer) == [
        "budget of all GPUs, today: 2.10 EUR of 2.00 EUR; spent, no GPU is started before 2026-03-11 00:00",
        "budget of GPU studio, this month: 12.50 EUR of 30.00 EUR, 17.50 EUR left",
    ]


def test_costs_name_the_money_and_the_zone() -> None:
    *_, prices, records = status_text.costs(
        m.HubStatus(request_id="q", gpus=(GPU,), currency="EUR", zone="Europe/Berlin")
    )
    assert prices == "at 1.2 EUR per hour; saved: compared with a GPU that is always on"
    assert records == "days are in Europe/Berlin; records begin 2026-11-24 07:00 Europe/Berlin"
    *_, records = status_text.costs(m.HubStatus(request_id="q", gpus=(GPU,)))
    assert records == "days are in UTC; records begin 2026-11-24 06:00 UTC"
