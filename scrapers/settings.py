"""Scrapy settings: polite by default, bounded everywhere."""

from __future__ import annotations

BOT_NAME = "hearback"
SPIDER_MODULES = ["scrapers.spiders"]
# Says what it is; a site of one's own may add an address to ask at (option user_agent).
USER_AGENT = "Hearback/0.1 (+customer feedback crawler; obeys robots.txt)"

ROBOTSTXT_OBEY = True
ROBOTSTXT_USER_AGENT = "Hearback"
DOWNLOAD_DELAY = 1.0
AUTOTHROTTLE_ENABLED = True
AUTOTHROTTLE_START_DELAY = 1.0
AUTOTHROTTLE_MAX_DELAY = 60.0
AUTOTHROTTLE_TARGET_CONCURRENCY = 1.0
CONCURRENT_REQUESTS = 8
CONCURRENT_REQUESTS_PER_DOMAIN = 2

DOWNLOAD_TIMEOUT = 30
DOWNLOAD_MAXSIZE = 10 * 1024 * 1024  # a page of reviews is far below; stops endless answers
DOWNLOAD_WARNSIZE = 0
DOWNLOAD_VERIFY_CERTIFICATES = True
DNS_TIMEOUT = 20
REDIRECT_MAX_TIMES = 5
METAREFRESH_MAXDELAY = 5
URLLENGTH_LIMIT = 2083
RETRY_TIMES = 3
RETRY_HTTP_CODES = [500, 502, 503, 504, 522, 524, 408, 429]

# Pages of one crawl are the same for everybody: no session is carried along.
COOKIES_ENABLED = False
TELNETCONSOLE_ENABLED = False
REMOTE_CONTROL_ENABLED = False  # would let other local processes run code in the crawl
DEFAULT_REQUEST_HEADERS = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9"}

DOWNLOADER_MIDDLEWARES = {
    "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
    "scrapers.middlewares.SameSiteMiddleware": 50,
    "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
    "scrapers.middlewares.StrictRobotsMiddleware": 100,
    "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
    "scrapers.middlewares.PatientRetryMiddleware": 550,
}
ITEM_PIPELINES = {"scrapers.pipelines.JsonLinesPipeline": 300}
CONCURRENT_ITEMS = 8

LOG_LEVEL = "WARNING"
LOG_FORMAT = "%(levelname)s %(message)s"
LOGSTATS_INTERVAL = 0.0
STATS_DUMP = False
