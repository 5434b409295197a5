"""The people and orders of the demo: customers of the CRM, orders of the ERP, help-desk users."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate

from pipelines.demo import catalog
from pipelines.demo.catalog import Product
from pipelines.demo.texts import make_name

HOUR = 3600
DAY = 24 * HOUR
OFFSET = 8 * HOUR  # Asia/Shanghai, without summer time
HOUR_WEIGHTS = (2, 1, 1, 1, 1, 1, 2, 4, 7, 10, 11, 10, 8, 7, 9, 10, 10, 9, 8, 8, 9, 9, 6, 4)
DAYS = 90


@dataclass(frozen=True)
class Period:
    """The demo's days in seconds since 1970 (UTC), cut at midnight in Asia/Shanghai."""

    until: date

    @property
    def end(self) -> int:
        """The instant after the last day."""
        midnight = datetime(self.until.year, self.until.month, self.until.day, tzinfo=UTC)
        return int(midnight.timestamp()) + DAY - OFFSET

    @property
    def start(self) -> int:
        return self.end - DAYS * DAY


class Clock:
    """Draws instants as people write: fewer at night and at weekends, slowly more each month."""

    def __init__(self, period: Period, rng: random.Random):
        self.period, self.rng = period, rng
        weights = []
        for number in range(DAYS):
            day = datetime.fromtimestamp(period.start + OFFSET + number * DAY, UTC)
            week = 0.8 if day.weekday() >= 5 else 1.0
            weights.append(week * (1 + 0.25 * number / DAYS) * rng.uniform(0.88, 1.12))
        self.days = list(accumulate(weights))
        self.hours = list(accumulate(HOUR_WEIGHTS))

    def draw(self) -> int:
        day = bisect_right(self.days, self.rng.random() * self.days[-1])
        return self.draw_on(min(day, DAYS - 1))

    def draw_on(self, day: int) -> int:
        """An instant on the day of that number, from 0."""
        hour = bisect_right(self.hours, self.rng.random() * self.hours[-1])
        second = int(self.rng.random() * HOUR)
        return min(self.period.start + day * DAY + hour * HOUR + second, self.period.end - 180)


def to_iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_local(second: int) -> str:
    return datetime.fromtimestamp(second + OFFSET, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class Customer:
    id: str
    name: str
    email: str
    phone: str
    language: str
    region: str
    signup: date
    birthday: date
    lifetime_value: float
    do_not_contact: bool
    versions: list[tuple[int, str, bool]] = field(default_factory=list)
    """(changed at, segment, is VIP), oldest first."""

    def state(self, at: int) -> tuple[int, str, bool] | None:
        """The version in force at an instant; None before the first."""
        known = [version for version in self.versions if version[0] <= at]
        return known[-1] if known else None


SEGMENTS = ("new", "regular", "loyal", "business")


def make_customers(rng: random.Random, period: Period, count: int, late: int) -> list[Customer]:
    """``count`` customers, half of each language; ``late`` of them change in the last days."""
    customers = []
    for number in range(count):
        language = catalog.LANGUAGES[number % 2]
        zh = language == "zh"
        name = make_name(rng, language)
        box = (
            f"u{rng.randint(10**7, 10**8 - 1)}"
            if zh
            else name.lower().replace(" ", ".") + str(number)
        )
        phone = (
            f"199{rng.randint(0, 99999999):08d}" if zh else f"+44 7700 900{rng.randint(0, 999):03d}"
        )
        signup = period.until - timedelta(days=rng.randint(20, 2000))
        customer = Customer(
            f"C{20001 + number}",
            name,
            f"{box}@example.{'com' if rng.random() < 0.7 else 'org'}",
            phone,
            language,
            rng.choice(catalog.REGIONS_ZH if zh else catalog.REGIONS_EN),
            signup,
            date(rng.randint(1950, 2006), rng.randint(1, 12), rng.randint(1, 28)),
            round(rng.lognormvariate(5.6, 1.1), 2),
            rng.random() < 0.03,
        )
        segment = rng.choices(SEGMENTS, (25, 45, 20, 10))[0]
        vip = rng.random() < 0.06
        customer.versions.append((period.start - rng.randint(1, 200) * DAY, segment, vip))
        if number < late:
            changed = period.end - rng.randint(HOUR, 3 * DAY)
            customer.versions.append(
                (changed, "loyal" if segment != "loyal" else "regular", not vip)
            )
        customers.append(customer)
    return customers


@dataclass
class Order:
    id: str
    customer_id: str
    product: Product
    quantity: int
    amount: float
    currency: str
    versions: list[tuple[int, str]]
    """(changed at, status), oldest first."""


def make_orders(
    rng: random.Random, clock: Clock, customers: list[Customer], count: int
) -> list[Order]:
    """``count`` orders, by the instant they were made; regulars buy more often."""
    weights = list(accumulate(rng.paretovariate(1.3) for _ in customers))
    orders: list[Order] = []
    for at in sorted(clock.draw() for _ in range(count)):
        customer = customers[
            min(bisect_right(weights, rng.random() * weights[-1]), len(customers) - 1)
        ]
        product = draw_product(rng)
        zh = customer.language == "zh"
        quantity = rng.choice((1, 1, 1, 1, 2, 3))
        low, high = product.price
        price = low * (high / low) ** rng.random() * (7 if zh else 1)
        versions = [(at, "paid")]
        fate = rng.random()
        if fate < 0.05:
            versions.append((at + rng.randint(600, DAY), "cancelled"))
        else:
            shipped = at + rng.randint(6 * HOUR, 3 * DAY)
            delivered = shipped + rng.randint(DAY, 6 * DAY)
            versions += [(shipped, "shipped"), (delivered, "delivered")]
            if fate > 0.93:
                versions.append((delivered + rng.randint(DAY, 9 * DAY), "returned"))
        orders.append(
            Order(
                f"LT{90000000 + 7 * len(orders) + rng.randint(0, 6)}",
                customer.id,
                product,
                quantity,
                round(price * quantity, 2),
                "CNY" if zh else rng.choice(("GBP", "GBP", "USD")),
                versions,
            )
        )
    return orders


_PRODUCT_WEIGHTS = list(accumulate(product.weight for product in catalog.PRODUCTS))


def draw_product(rng: random.Random) -> Product:
    return catalog.PRODUCTS[bisect_right(_PRODUCT_WEIGHTS, rng.random() * _PRODUCT_WEIGHTS[-1])]


@dataclass
class User:
    """A user of the help desk; ``customer`` is the person in the CRM, if known there."""

    id: int
    name: str
    email: str
    language: str
    created: int
    external_id: str | None
    customer: Customer | None
    phone: str | None = None


def make_users(
    rng: random.Random, period: Period, customers: list[Customer], count: int
) -> list[User]:
    """End users: most carry the CRM's id, some share only the mail address, a few neither."""
    users = []
    chosen = rng.sample(customers, min(count, len(customers)))
    for number, customer in enumerate(chosen):
        created = period.start - rng.randint(1, 400) * DAY + rng.randint(0, DAY)
        form = rng.random()
        known = form < 0.97
        users.append(
            User(
                380000000000 + number * 13 + 1,
                customer.name if rng.random() < 0.9 else customer.name.split()[0],
                customer.email if known else f"guest{number}@example.net",
                customer.language,
                created,
                customer.id if form < 0.92 else None,
                customer if known else None,
                customer.phone if rng.random() < 0.4 else None,
            )
        )
    return users
