"""Statistics over the topics, in a process of their own: the one package that imports faust. Nothing else imports it or waits for it."""

from shared_schema.sync.insights.insights import Insights as Insights
from shared_schema.sync.insights.statistics import WINDOW_MINUTES as WINDOW_MINUTES
