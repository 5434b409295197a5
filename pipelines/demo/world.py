"""The whole demo world, past its end, with everything planted; ``view`` cuts it at an instant."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from pipelines.demo import catalog
from pipelines.demo.cases import (
    CHANNEL_WEIGHTS,
    CHANNELS,
    STYLE_OF,
    TARGET_HOURS,
    Event,
    Historian,
    Ticket,
    choose_team,
)
from pipelines.demo.catalog import Product
from pipelines.demo.company import (
    DAY,
    DAYS,
    HOUR,
    OFFSET,
    Clock,
    Customer,
    Order,
    Period,
    User,
    draw_product,
    make_customers,
    make_orders,
    make_users,
)
from pipelines.demo.texts import Label, Writer, Written, make_name

TICKETS, REVIEWS, SURVEYS, POSTS = 3800, 4200, 5000, 6400
ORDERS, CUSTOMERS, USERS = 9000, 2400, 1500
SURGE_DAY = DAYS - 6
TYPE_MIX = {
    "desk": {"complaint": 47, "question": 33, "suggestion": 7, "praise": 6, "other": 7},
    "review": {"complaint": 31, "question": 3, "suggestion": 10, "praise": 52, "other": 4},
    "app": {"complaint": 38, "question": 6, "suggestion": 17, "praise": 34, "other": 5},
}
PLATFORMS = ("ios", "android", "android", "web", "harmony")
OVERSIZED = 20_500


@dataclass
class Version:
    at: int
    text: str
    stars: int | None
    label: Label


@dataclass
class Post:
    """What somebody wrote in the app or on a review page, in its versions, oldest first."""

    id: str
    product: Product
    language: str
    versions: list[Version]
    customer: Customer | None = None
    author: str = ""
    title: str = ""
    platform: str = ""
    is_private: bool = False

    @property
    def created(self) -> int:
        return self.versions[0].at

    def state(self, at: int) -> Version | None:
        known = [version for version in self.versions if version.at <= at]
        return known[-1] if known else None


@dataclass
class SurveyRow:
    id: str
    ticket: Ticket | None
    customer: Customer
    language: str
    invited: int
    answered: int | None = None
    csat: int | None = None
    nps: int | None = None
    ces: int | None = None
    comment: str = ""
    label: Label | None = None


@dataclass
class World:
    period: Period
    customers: list[Customer]
    orders: list[Order]
    users: list[User]
    tickets: list[Ticket] = field(default_factory=list)
    reviews: list[Post] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    surveys: list[SurveyRow] = field(default_factory=list)
    duplicates: list[tuple[str, str, object, object]] = field(default_factory=list)
    """(exact or near, source, the copy, the original)."""
    bad_comments: list[tuple[Ticket, Event, str]] = field(default_factory=list)


class Builder:
    """Builds a world from a seed: each part draws from a stream of its own."""

    def __init__(self, seed: int, until: date, scale: float):
        self.seed, self.scale = seed, scale
        self.period = Period(until)
        self.rng = self.stream("main")
        self.writers = {
            lang: Writer(lang, self.stream(f"text-{lang}")) for lang in catalog.LANGUAGES
        }
        self.clock = Clock(self.period, self.stream("clock"))
        self.historian = Historian(self.stream("history"), self.writers)

    def stream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.period.until}/{name}")

    def count(self, base: float, least: int = 1) -> int:
        return max(least, round(base * self.scale))

    def build(self) -> World:
        people = self.stream("people")
        customers = make_customers(
            people, self.period, self.count(CUSTOMERS, 40), self.count(30, 3)
        )
        world = World(
            self.period,
            customers,
            make_orders(people, self.clock, customers, self.count(ORDERS, 20)),
            make_users(people, self.period, customers, self.count(USERS, 30)),
        )
        self.add_tickets(world)
        self.add_reviews(world)
        self.add_posts(world)
        self.add_surge(world)
        self.number_tickets(world)
        self.add_surveys(world)
        self.number_posts(world)
        return world

    def draw_type(self, place: str) -> str:
        mix = TYPE_MIX[place]
        return self.rng.choices(list(mix), list(mix.values()))[0]

    def write(
        self,
        language: str,
        product: Product,
        kind: str,
        style: str,
        at: int,
        *,
        in_app: bool = False,
    ) -> Written:
        writer = self.writers[language]
        is_public = style in ("review", "survey", "app")
        topic = writer.choose_topic(product, kind, in_app, is_public)
        facts = writer.facts(
            product,
            datetime.fromtimestamp(at + OFFSET, UTC),
            currency=self.rng.choice(("£", "£", "$")),
        )
        return writer.write(topic, style, facts)

    # cases

    def new_ticket(
        self, user: User, at: int, product: Product | None = None, kind: str = ""
    ) -> Ticket:
        channel = self.rng.choices(CHANNELS, CHANNEL_WEIGHTS)[0]
        product = product or draw_product(self.rng)
        written = self.write(
            user.language, product, kind or self.draw_type("desk"), STYLE_OF[channel], at
        )
        return self.ticket_of(user, product, channel, at, written)

    def ticket_of(
        self, user: User, product: Product, channel: str, at: int, written: Written
    ) -> Ticket:
        return Ticket(
            user,
            product,
            written.label,
            channel,
            written.subject,
            written.body,
            at,
            choose_team(written.label, product),
            written.topic,
        )

    def add_tickets(self, world: World) -> None:
        users = world.users
        for _ in range(self.count(TICKETS)):
            self.finish_ticket(world, self.new_ticket(self.rng.choice(users), self.clock.draw()))
        self.plant_unanswered(world)
        self.plant_at_risk(world)
        self.plant_late_cases(world)
        self.plant_junk(world)
        self.plant_twins(world)
        self.plant_bad_comments(world)
        self.delete_some(world)

    def finish_ticket(self, world: World, ticket: Ticket) -> None:
        self.historian.open_ticket(ticket)
        self.historian.tell(ticket)
        world.tickets.append(ticket)

    def plant_unanswered(self, world: World) -> None:
        """Complaints of the last days that nobody has answered; some customers ask again."""
        for _ in range(self.count(45, 5)):
            at = world.period.end - self.rng.randint(26 * HOUR, 9 * DAY)
            ticket = self.new_ticket(self.rng.choice(world.users), at, kind="complaint")
            ticket.plants.add("unanswered")
            self.historian.open_ticket(ticket)
            if self.rng.random() < 0.4:
                again = min(at + self.rng.randint(HOUR * 8, 3 * DAY), world.period.end - 600)
                self.historian.customer_says(ticket, again, "fu_chase")
            world.tickets.append(ticket)

    def plant_at_risk(self, world: World) -> None:
        """Cases of the last hours whose first-reply target ends soon after the period."""
        for number in range(self.count(30, 6)):
            language = catalog.LANGUAGES[number % 2]
            users = [user for user in world.users if user.language == language]
            priority = ("normal", "normal", "high")[number % 3]
            target = TARGET_HOURS[priority]
            age = self.rng.uniform(0.45, 0.95) * target
            at = world.period.end - int(age * HOUR)
            ticket = self.new_ticket(self.rng.choice(users), at)
            while ticket.label.priority != priority:
                ticket = self.new_ticket(self.rng.choice(users), at)
            ticket.plants.add("at_risk")
            self.historian.open_ticket(ticket)
            world.tickets.append(ticket)

    def plant_late_cases(self, world: World) -> None:
        """Cases opened weeks ago and on hold since, that move again in the last three days."""
        historian, rng = self.historian, self.rng
        for number in range(self.count(60, 6)):
            at = world.period.start + rng.randint(5 * DAY, 60 * DAY)
            ticket = self.new_ticket(rng.choice(world.users), at, kind="complaint")
            ticket.plants.add("late")
            historian.open_ticket(ticket)
            agent = rng.choice(historian.agents[ticket.team.name, ticket.language])
            answered = at + historian.delay_first_reply(ticket, ticket.state["priority"])
            historian.take_up(ticket, agent, answered)
            waiting = historian.reply(ticket, agent, answered, "agent_first", "hold")
            moved = max(world.period.end - rng.randint(2 * HOUR, 3 * DAY - HOUR), waiting + HOUR)
            if number % 3 == 0:
                historian.customer_says(ticket, moved, "fu_chase")
            elif number % 3 == 1:
                solved = historian.reply(ticket, agent, moved, "agent_solve", "solved")
                historian.close(ticket, solved)
            else:
                ticket.act(moved, agent.user_id, "Web form", ticket.change("status", "open"))
                historian.note(ticket, agent, moved + 300)
            world.tickets.append(ticket)

    def plant_junk(self, world: World) -> None:
        """Spam, tests, and cases that a machine opened for nobody."""
        rng, historian = self.rng, self.historian
        for kind, base in (("spam", 40), ("test", 16), ("bot", 8)):
            for number in range(self.count(base, 3)):
                user = rng.choice(world.users)
                at = self.clock.draw()
                if kind == "bot":
                    user = User(
                        catalog.BOT_ID, catalog.BOT_NAME, "bot@lanting.example", "en", 0, None, None
                    )
                    price_list = rng.randint(100, 999)
                    text = f"Nightly import of price list {price_list} failed: timeout after 30 s."
                    written = Written(
                        "Import job failed", text, Label("other", "other", "neutral", "low"), "bot"
                    )
                else:
                    writer = self.writers[user.language]
                    facts = writer.facts(draw_product(rng), datetime.fromtimestamp(at, UTC))
                    text = writer.say_extra(kind, facts)
                    written = Written(
                        text[:40], text, Label("other", "other", "neutral", "low"), kind
                    )
                ticket = self.ticket_of(user, draw_product(rng), "web", at, written)
                ticket.plants.add(kind)
                historian.open_ticket(ticket)
                agent = rng.choice(historian.agents[ticket.team.name, "en"])
                tag = kind if kind != "bot" and number % 2 == 0 else None
                solved = ticket.act(
                    at + rng.randint(HOUR, 9 * HOUR),
                    agent.user_id,
                    "Web form",
                    ticket.change("tags", [*ticket.state["tags"], tag]) if tag else None,
                    ticket.change("assignee_id", agent.user_id),
                    ticket.change("status", "solved"),
                )
                historian.close(ticket, solved)
                world.tickets.append(ticket)

    def plant_twins(self, world: World) -> None:
        """Cases sent twice, word for word or nearly so; some are merged into the first."""
        rng, historian = self.rng, self.historian
        plain = [t for t in world.tickets if not t.plants and t.channel in ("web", "email")]
        twins = rng.sample(plain, min(self.count(45, 6), len(plain) // 2))
        for number, first in enumerate(twins):
            is_exact = number % 3 != 2
            writer = self.writers[first.language]
            at = first.opened + rng.randint(60, 40 * 60)
            facts = writer.facts(first.product, datetime.fromtimestamp(at + OFFSET, UTC))
            body = first.body if is_exact else writer.edit(first.body, facts)
            written = Written(first.subject, body, first.label, first.topic)
            twin = self.ticket_of(first.user, first.product, first.channel, at, written)
            twin.plants.add("twin")
            world.duplicates.append(("exact" if is_exact else "near", "helpdesk", twin, first))
            historian.open_ticket(twin)
            if number % 2:
                historian.tell(twin)
            else:
                agent = rng.choice(historian.agents[twin.team.name, twin.language])
                historian.merge(twin, first, at + rng.randint(600, 5 * HOUR), agent)
            world.tickets.append(twin)

    def plant_bad_comments(self, world: World) -> None:
        """Messages that no row can hold: far too long ones, and ones with control characters."""
        rng = self.rng
        waiting = [
            t
            for t in world.tickets
            if not t.plants and t.state["status"] == "closed" and t.channel != "voice"
        ]
        for number, ticket in enumerate(rng.sample(waiting, min(7, len(waiting)))):
            place = next(
                n
                for n, audit in enumerate(ticket.audits)
                if n > 0 and audit.updater != ticket.user.id
            )
            reason = "oversized_text" if number < 3 else "control_characters"
            text = ticket.body
            if reason == "oversized_text":
                text = (text + " ") * (OVERSIZED // (len(text) + 1) + 1)
            else:
                text = text[: len(text) // 2] + "\x00\x07" + text[len(text) // 2 :] + "\x1b[0m"
            event = Event(
                "Comment",
                value=text,
                author=ticket.user.id,
                label=ticket.label,
                author_role="customer",
            )
            ticket.audits[place].events.append(event)
            ticket.audits[place].updater = ticket.user.id
            world.bad_comments.append((ticket, event, reason))

    def delete_some(self, world: World) -> None:
        rng = self.rng
        plain = [
            t for t in world.tickets if not t.plants and t not in [d[3] for d in world.duplicates]
        ]
        bad = {id(ticket) for ticket, _, _ in world.bad_comments}
        for ticket in rng.sample(plain, min(self.count(30, 3), len(plain) // 4)):
            if id(ticket) in bad:
                continue
            keep = rng.randint(2, len(ticket.audits))
            at = ticket.audits[keep - 1].at + rng.randint(60, DAY)
            del ticket.audits[keep:]
            ticket.state = {}
            for audit in ticket.audits:
                for event in audit.events:
                    if event.field:
                        ticket.state[event.field] = event.value
            agent = rng.choice(self.historian.agents[ticket.team.name, ticket.language])
            ticket.act(at, agent.user_id, "Web form", ticket.change("status", "deleted"))
            ticket.plants.add("deleted")

    def number_tickets(self, world: World) -> None:
        """Ids in the order of opening; audit and event ids in the order of all acts."""
        world.tickets.sort(key=lambda ticket: ticket.opened)
        for number, ticket in enumerate(world.tickets):
            ticket.id = 10001 + number
        for ticket in world.tickets:
            if ticket.merged_into is not None:
                self.name_merge(ticket, ticket.merged_into)
        acts = [
            (audit.at, ticket.id, n, audit)
            for ticket in world.tickets
            for n, audit in enumerate(ticket.audits)
        ]
        acts.sort(key=lambda act: act[:3])
        number = 500_000_000_001
        for _, _, _, audit in acts:
            audit.id = number
            for event in audit.events:
                number += 2
                event.id = number
            number += 3

    def name_merge(self, ticket: Ticket, target: Ticket) -> None:
        for audit in ticket.audits:
            for event in audit.events:
                if event.value == "{merge_note}":
                    event.value = (
                        "This request was closed and merged into request "
                        f'#{target.id} "{target.subject}".'
                    )

    # reviews and posts

    def stars_for(self, label: Label) -> int:
        weights = {
            "complaint": (60, 30, 9, 1, 0) if label.priority != "low" else (10, 40, 40, 10, 0),
            "praise": (0, 0, 1, 19, 80),
            "suggestion": (2, 8, 30, 40, 20),
        }.get(label.feedback_type, (3, 7, 25, 30, 35))
        return self.rng.choices((1, 2, 3, 4, 5), weights)[0]

    def add_reviews(self, world: World) -> None:
        for _ in range(self.count(REVIEWS)):
            product = draw_product(self.rng)
            language = self.rng.choice(catalog.LANGUAGES)
            at = self.clock.draw()
            written = self.write(language, product, self.draw_type("review"), "review", at)
            world.reviews.append(self.review_of(product, language, at, written))
        self.revise_some(world, world.reviews, "review", self.count(12, 2))
        self.copy_posts(world, world.reviews, "reviews", self.count(40, 4))
        for _ in range(8):
            at = world.period.start + self.rng.randint(DAY, 60 * DAY)
            product = draw_product(self.rng)
            written = self.write("en", product, "praise", "review", at)
            hidden = self.review_of(product, "en", at, written)
            hidden.is_private = True
            world.reviews.append(hidden)

    def review_of(self, product: Product, language: str, at: int, written: Written) -> Post:
        rng = self.rng
        handles = catalog.HANDLES_ZH if language == "zh" else catalog.HANDLES_EN
        name = make_name(rng, language)
        author = (
            rng.choice(handles)
            if rng.random() < 0.35
            else name
            if rng.random() < 0.5
            else name[:1] + ("**" if language == "zh" else ". " + name.split()[-1])
        )
        version = Version(at, written.body, self.stars_for(written.label), written.label)
        return Post("", product, language, [version], author=author, title=written.subject)

    def add_posts(self, world: World) -> None:
        for _ in range(self.count(POSTS)):
            at = self.clock.draw()
            customer = self.rng.choice(world.customers)
            in_app = self.rng.random() < 0.58
            product = draw_product(self.rng)
            written = self.write(
                customer.language, product, self.draw_type("app"), "app", at, in_app=in_app
            )
            world.posts.append(self.post_of(customer, product, at, written))
        self.revise_some(world, world.posts, "app", self.count(40, 4))
        self.copy_posts(world, world.posts, "app_feedback", self.count(120, 8))

    def post_of(self, customer: Customer, product: Product, at: int, written: Written) -> Post:
        stars = self.stars_for(written.label) if self.rng.random() < 0.7 else None
        return Post(
            "",
            product,
            customer.language,
            [Version(at, written.body, stars, written.label)],
            customer=customer,
            platform=self.rng.choice(PLATFORMS),
        )

    def revise_some(self, world: World, posts: list[Post], style: str, count: int) -> None:
        """Second versions of old posts in the last three days: their writers thought again."""
        old = [post for post in posts if post.created < world.period.end - 20 * DAY]
        for post in self.rng.sample(old, min(count, len(old))):
            first = post.versions[0]
            at = world.period.end - self.rng.randint(HOUR, 3 * DAY)
            written = self.write(
                post.language,
                post.product,
                first.label.feedback_type,
                style,
                at,
                in_app=style == "app",
            )
            if written.body == first.text:
                continue
            stars = None if first.stars is None else self.stars_for(written.label)
            post.versions.append(Version(at, written.body, stars, written.label))

    def copy_posts(self, world: World, posts: list[Post], source: str, count: int) -> None:
        """Post the same again, or nearly the same, under another id."""
        rng = self.rng
        plain = [p for p in posts if len(p.versions) == 1 and len(p.versions[0].text) > 12]
        for number, first in enumerate(rng.sample(plain, min(count, len(plain) // 2))):
            is_exact = number % 2 == 0
            old = first.versions[0]
            at = min(old.at + rng.randint(40, 2 * DAY), world.period.end - 200)
            writer = self.writers[first.language]
            facts = writer.facts(first.product, datetime.fromtimestamp(at + OFFSET, UTC))
            text = old.text if is_exact else writer.edit(old.text, facts)
            copy = Post(
                "",
                first.product,
                first.language,
                [Version(at, text, old.stars, old.label)],
                customer=first.customer,
                author=first.author,
                title=first.title,
                platform=first.platform,
            )
            world.duplicates.append(("exact" if is_exact else "near", source, copy, first))
            posts.append(copy)

    def number_posts(self, world: World) -> None:
        for posts, prefix, first in ((world.reviews, "r", 70001), (world.posts, "F", 300001)):
            posts.sort(key=lambda post: post.created)
            for number, post in enumerate(posts):
                post.id = f"{prefix}{first + number}"

    # the surge

    def add_surge(self, world: World) -> None:
        """Four times the usual complaints about one product on one day."""
        product = catalog.BY_KEY[catalog.SURGE_PRODUCT]
        known = [(t.opened, t.product, t.label) for t in world.tickets]
        known += [
            (p.created, p.product, p.versions[0].label) for p in (*world.reviews, *world.posts)
        ]
        usual = (
            sum(p is product and label.feedback_type == "complaint" for _, p, label in known) / DAYS
        )
        for number in range(max(8, round(usual * 3.5))):
            language = catalog.LANGUAGES[number % 2]
            at = self.clock.draw_on(SURGE_DAY)
            writer = self.writers[language]
            topic = writer.by_name["surge_firmware"]
            facts = writer.facts(product, datetime.fromtimestamp(at + OFFSET, UTC))
            place = ("app", "ticket", "app", "review", "ticket")[number // 2 % 5]
            if place == "ticket":
                user = self.rng.choice([u for u in world.users if u.language == language])
                channel = self.rng.choice(("web", "email", "chat"))
                written = writer.write(topic, STYLE_OF[channel], facts)
                self.finish_ticket(world, self.ticket_of(user, product, channel, at, written))
            elif place == "app":
                customer = self.rng.choice([c for c in world.customers if c.language == language])
                written = writer.write(topic, "app", facts)
                world.posts.append(self.post_of(customer, product, at, written))
            else:
                written = writer.write(topic, "review", facts)
                world.reviews.append(self.review_of(product, language, at, written))

    # surveys

    def add_surveys(self, world: World) -> None:
        rng = self.rng
        total = self.count(SURVEYS)
        for ticket in world.tickets:
            if len(world.surveys) >= total * 0.62:
                break
            if ticket.user.customer is None or "bot" in ticket.plants or rng.random() < 0.12:
                continue
            solved = [
                audit.at
                for audit in ticket.audits
                for event in audit.events
                if event.field == "status" and event.value == "solved"
            ]
            if solved:
                row = SurveyRow(
                    "",
                    ticket,
                    ticket.user.customer,
                    ticket.language,
                    solved[0] + rng.randint(HOUR, 6 * HOUR),
                )
                self.answer(row, ticket)
                world.surveys.append(row)
        while len(world.surveys) < total:
            customer = rng.choice(world.customers)
            row = SurveyRow("", None, customer, customer.language, self.clock.draw())
            self.answer(row, None)
            world.surveys.append(row)
        open_rows = [
            r
            for r in world.surveys
            if r.answered is None and r.invited < world.period.end - 15 * DAY
        ]
        for row in rng.sample(open_rows, min(self.count(20, 3), len(open_rows))):
            self.answer(row, row.ticket, world.period.end - rng.randint(HOUR, 2 * DAY))
        world.surveys.sort(key=lambda row: row.invited)
        for number, row in enumerate(world.surveys):
            row.id = f"S{400001 + number}"

    def answer(self, row: SurveyRow, ticket: Ticket | None, at: int | None = None) -> None:
        rng = self.rng
        if at is None:
            if rng.random() > 0.4:
                return
            at = row.invited + int(9 * HOUR * rng.lognormvariate(0, 1))
        mood = rng.gauss(0.68, 0.24)
        if ticket is not None:
            mood -= 0.12 if ticket.team.name == catalog.SLOW_TEAM else 0
            mood -= 0.06 if ticket.label.priority in ("urgent", "high") else 0
        mood = min(max(mood, 0.0), 1.0)
        row.answered = at
        row.csat = 1 + min(int(mood * 5), 4)
        row.nps = (
            min(max(round(mood * 10 + rng.gauss(0, 1)), 0), 10) if rng.random() < 0.85 else None
        )
        row.ces = (
            1 + min(max(int(mood * 7 + rng.gauss(0, 0.7)), 0), 6) if rng.random() < 0.75 else None
        )
        if rng.random() < 0.62:
            product = ticket.product if ticket else draw_product(rng)
            kinds = {1: (85, 3, 7, 0, 5), 2: (75, 4, 14, 0, 7), 3: (35, 6, 34, 5, 20)}
            weights = kinds.get(row.csat, (2, 4, 14, 68, 12))
            kind = rng.choices(("complaint", "question", "suggestion", "praise", "other"), weights)[
                0
            ]
            written = self.write(row.language, product, kind, "survey", at)
            row.comment, row.label = written.body, written.label
