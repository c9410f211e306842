"""The pages of the Monitor, by their names in its address."""

from __future__ import annotations

from nblb.monitoring.page import Page
from nblb.monitoring.pages.control import ControlPanel
from nblb.monitoring.pages.health import HealthPage
from nblb.monitoring.pages.hubs import HubsPage
from nblb.monitoring.pages.jobs import JobPage, JobsPage
from nblb.monitoring.pages.now import NowPage
from nblb.monitoring.pages.room import RoomPage
from nblb.monitoring.pages.statistics import StatisticsPage
from nblb.monitoring.pages.task import TaskPage
from nblb.monitoring.pages.tasks import TasksPage
from nblb.monitoring.pages.timeline import TimelinePage
from nblb.monitoring.pages.users import UsersPage

#: The pages of the navigation, in its order.
SHOWN: tuple[type[Page], ...] = (
    NowPage, TasksPage, JobsPage, UsersPage, HubsPage, StatisticsPage, TimelinePage, HealthPage, RoomPage,
)  # fmt: skip
CONTROL: type[Page] = ControlPanel  # the first page of a dashboard
_ALL: tuple[type[Page], ...] = (*SHOWN, TaskPage, JobPage)
PAGES: dict[str, type[Page]] = {page.key: page for page in _ALL}
