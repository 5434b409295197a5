"""Who and what there is in the demo: products, teams, agents, names, places."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("en", "zh")
SURGE_PRODUCT = "homemesh"
SLOW_TEAM = "Finance Desk"


@dataclass(frozen=True)
class Product:
    """``tags`` say which topics of the phrase bank can be about it, ``skip`` which cannot.

    ``price`` is (lowest, highest) in pounds.
    """

    key: str
    en: str
    zh: str
    scene: str
    tags: tuple[str, ...]
    price: tuple[int, int]
    weight: float = 1.0
    skip: tuple[str, ...] = ()

    def name(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


PRODUCTS = (
    Product("lumo", "Lumo desk lamp", "明朗台灯", "ecommerce", ("goods", "device"), (39, 129)),
    Product(
        "breeze",
        "Breeze air fryer",
        "轻风空气炸锅",
        "ecommerce",
        ("goods", "device"),
        (69, 159),
        1.3,
    ),
    Product(
        "puretap", "Puretap water filter", "清泉净水器", "ecommerce", ("goods", "device"), (49, 189)
    ),
    Product(
        "nightwatch",
        "Nightwatch doorbell",
        "守望可视门铃",
        "ecommerce",
        ("goods", "device"),
        (79, 159),
    ),
    Product(
        "trailway", "Trailway backpack", "行野双肩包", "ecommerce", ("goods", "wear"), (45, 99)
    ),
    Product(
        "cloudstep",
        "Cloudstep trainers",
        "云步跑鞋",
        "ecommerce",
        ("goods", "wear"),
        (59, 139),
        1.2,
    ),
    Product("everyday", "Everyday Account", "日常账户", "finance", ("bank",), (20, 3000), 1.1),
    Product("harbour", "Harbour Card", "海港信用卡", "finance", ("bank",), (20, 5000), 1.1),
    Product(
        "quickloan",
        "QuickLoan",
        "快享贷",
        "finance",
        ("bank", "loan"),
        (100, 4000),
        0.8,
        ("account_frozen", "fraud_charge", "bank_praise"),
    ),
    Product(
        "steady", "Steady Saver", "稳盈存", "finance", ("bank",), (50, 6000), 0.6, ("fraud_charge",)
    ),
    Product("cityhop", "CityHop flights", "城际机票", "travel", ("trip",), (60, 900), 1.1),
    Product(
        "staywell",
        "StayWell hotels",
        "安住酒店",
        "travel",
        ("trip", "hotel"),
        (60, 480),
        1.1,
        ("delay", "change_fee", "trip_ideas"),
    ),
    Product("weekend", "Weekend Away", "周末游套餐", "travel", ("trip", "hotel"), (150, 1400), 0.7),
    Product(
        "railpass", "RailPass", "畅行火车票", "travel", ("trip",), (20, 160), 0.8, ("stranded",)
    ),
    Product("clinic", "Online Clinic", "在线问诊", "health", ("health",), (15, 60), 1.0),
    Product(
        "pulseband",
        "PulseBand",
        "脉动手环",
        "health",
        ("goods", "device", "wearable"),
        (39, 99),
        1.1,
    ),
    Product("vitacheck", "VitaCheck", "康享体检套餐", "health", ("health",), (90, 480), 0.8),
    Product("medbox", "MedBox", "药到家", "health", ("health", "pharmacy"), (8, 90), 0.8),
    Product("fibre", "Fibre 1000", "千兆宽带", "telecom", ("telecom", "broadband"), (20, 60), 1.2),
    Product("talkgo", "Talk & Go", "畅聊套餐", "telecom", ("telecom",), (8, 40), 0.9, ("no_show",)),
    Product(
        "homemesh",
        "HomeMesh router",
        "全屋路由器",
        "telecom",
        ("goods", "device", "router"),
        (99, 229),
        1.5,
    ),
    Product(
        "esim",
        "eSIM Travel",
        "环游eSIM",
        "telecom",
        ("telecom", "esim"),
        (9, 45),
        0.7,
        ("no_show", "telecom_howto"),
    ),
)
BY_KEY = {product.key: product for product in PRODUCTS}


@dataclass(frozen=True)
class Team:
    name: str
    zh: str
    group_id: int
    needs: tuple[str, ...]


TEAMS = (
    Team("Sales Desk", "售前咨询", 360010001, ("sales",)),
    Team("Technical Support", "技术支持", 360010002, ("technical",)),
    Team("After-sales Care", "售后服务", 360010003, ("after_sales", "other")),
    Team(SLOW_TEAM, "财务专席", 360010004, ()),
)
TEAM_BY_NAME = {team.name: team for team in TEAMS}


@dataclass(frozen=True)
class Agent:
    hr_id: str
    user_id: int
    name: str
    email: str
    team: str
    languages: tuple[str, ...]
    is_active: bool
    capacity: int


_AGENT_NAMES = {
    "Sales Desk": ("Priya Nair", "陈思远", "Tom Whitlock", "林晓彤", "Ana Ferreira", "周子墨"),
    "Technical Support": (
        "Marek Novak",
        "王浩然",
        "Grace Adeyemi",
        "李雨桐",
        "Dan Kowalski",
        "赵一鸣",
    ),
    "After-sales Care": (
        "Sarah Lindqvist",
        "刘佳宁",
        "Ben Okafor",
        "黄嘉怡",
        "Julie Martin",
        "孙梓涵",
    ),
    SLOW_TEAM: ("Owen Price", "吴文静", "Nadia Rahman", "郑凯", "Helen Brooks", "何雪"),
}
_PINYIN = {
    "陈思远": "chen.siyuan",
    "林晓彤": "lin.xiaotong",
    "周子墨": "zhou.zimo",
    "王浩然": "wang.haoran",
    "李雨桐": "li.yutong",
    "赵一鸣": "zhao.yiming",
    "刘佳宁": "liu.jianing",
    "黄嘉怡": "huang.jiayi",
    "孙梓涵": "sun.zihan",
    "吴文静": "wu.wenjing",
    "郑凯": "zheng.kai",
    "何雪": "he.xue",
}


def list_agents() -> list[Agent]:
    """The 24 agents, six a team, half of them Chinese speaking; two have left."""
    agents = []
    number = 0
    for team, names in _AGENT_NAMES.items():
        for name in names:
            number += 1
            is_chinese = name in _PINYIN
            box = _PINYIN.get(name) or name.lower().replace(" ", ".")
            spoken = (
                ("zh", "en")
                if is_chinese and number % 4 == 0
                else (("zh",) if is_chinese else ("en",))
            )
            agents.append(
                Agent(
                    f"HR{1000 + number}",
                    360000100 + number,
                    name,
                    f"{box}@lanting.example",
                    team,
                    spoken,
                    number not in (6, 17),
                    25 if number % 3 else 15,
                )
            )
    return agents


AGENTS = tuple(list_agents())
BOT_ID = 360000199
BOT_NAME = "Lanlan 小兰"
SYSTEM_ID = -1
PRODUCT_FIELD = 360020001
LANGUAGE_FIELD = 360020002

GIVEN_EN = [
    "Alice",
    "Amir",
    "Bella",
    "Brian",
    "Carla",
    "Chloe",
    "Daniel",
    "Deepa",
    "Derek",
    "Diana",
    "Ed",
    "Elena",
    "Emma",
    "Farah",
    "Fiona",
    "Frank",
    "Gareth",
    "Hannah",
    "Harriet",
    "Hugo",
    "Ian",
    "Imogen",
    "Ivy",
    "Jack",
    "Jamal",
    "Joanne",
    "Karen",
    "Kevin",
    "Laura",
    "Leo",
    "Lily",
    "Louise",
    "Luca",
    "Maya",
    "Megan",
    "Michael",
    "Mina",
    "Nathan",
    "Nora",
    "Oliver",
    "Oscar",
    "Paul",
    "Petra",
    "Quentin",
    "Rachel",
    "Ravi",
    "Rosa",
    "Ruth",
    "Sam",
    "Sean",
    "Simon",
    "Sofia",
    "Steve",
    "Tara",
    "Ted",
    "Theo",
    "Tina",
    "Uma",
    "Vera",
    "Victor",
    "Wendy",
    "Yasmin",
    "Zoe",
    "Zack",
]
FAMILY_EN = [
    "Adams",
    "Ahmed",
    "Allen",
    "Baker",
    "Barnes",
    "Bell",
    "Bennett",
    "Carter",
    "Clarke",
    "Cole",
    "Collins",
    "Cooper",
    "Cox",
    "Davies",
    "Dixon",
    "Evans",
    "Fisher",
    "Foster",
    "Garcia",
    "Gibson",
    "Gray",
    "Green",
    "Hall",
    "Harris",
    "Hill",
    "Hughes",
    "Jackson",
    "James",
    "Jones",
    "Kaur",
    "Kelly",
    "Khan",
    "King",
    "Lewis",
    "Lopez",
    "Marsh",
    "Mason",
    "Mills",
    "Moore",
    "Morgan",
    "Murphy",
    "Nelson",
    "Owen",
    "Palmer",
    "Parker",
    "Patel",
    "Perry",
    "Quinn",
    "Reed",
    "Reid",
    "Ross",
    "Russell",
    "Scott",
    "Shaw",
    "Singh",
    "Stone",
    "Taylor",
    "Turner",
    "Walsh",
    "Ward",
    "Webb",
    "West",
    "White",
    "Wood",
    "Young",
]
FAMILY_ZH = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓"
    "曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任沈姚卢姜崔钟谭陆"
)
GIVEN_ZH = [
    "伟",
    "芳",
    "娜",
    "敏",
    "静",
    "丽",
    "强",
    "磊",
    "军",
    "洋",
    "勇",
    "艳",
    "杰",
    "娟",
    "涛",
    "明",
    "超",
    "秀兰",
    "霞",
    "平",
    "刚",
    "桂英",
    "建华",
    "文博",
    "子轩",
    "梓萱",
    "欣怡",
    "雨泽",
    "诗涵",
    "浩宇",
    "晨曦",
    "佳琪",
    "思琪",
    "志远",
    "海燕",
    "晓明",
    "俊杰",
    "婷婷",
    "雪梅",
    "春燕",
    "玉兰",
    "国强",
    "立新",
    "慧敏",
    "家豪",
    "一诺",
    "可馨",
    "宇航",
    "嘉欣",
    "晓东",
]
CITIES_EN = [
    "Leeds",
    "Bristol",
    "Glasgow",
    "Cardiff",
    "Austin",
    "Denver",
    "Portland",
    "Toronto",
    "Dublin",
    "Singapore",
    "Lisbon",
    "Berlin",
    "Milan",
    "Sydney",
]
CITIES_ZH = [
    "杭州",
    "成都",
    "武汉",
    "西安",
    "南京",
    "苏州",
    "长沙",
    "郑州",
    "青岛",
    "厦门",
    "重庆",
    "沈阳",
    "昆明",
    "佛山",
    "三亚",
    "大理",
]
REGIONS_EN = ("UK", "US", "SG", "AU", "IE")
REGIONS_ZH = ("华东", "华南", "华北", "西南", "华中", "东北")
DEVICES = (
    "iPhone 15",
    "iPhone 13",
    "iPhone SE",
    "Pixel 8",
    "Galaxy S23",
    "Galaxy A54",
    "Mate 60",
    "P50 Pro",
    "Redmi Note 13",
    "Mi 14",
    "OnePlus 12",
    "iPad Air",
    "Reno 11",
)
HANDLES_EN = [
    "sunny_dee",
    "jonesy88",
    "mrs_b",
    "coffeefirst",
    "nightowl",
    "kt_w",
    "rambler72",
    "thefrugalone",
    "bookworm",
    "dadof3",
    "lex_p",
    "hikerjo",
]
HANDLES_ZH = [
    "爱吃草莓的兔子",
    "老王家的猫",
    "匿名用户",
    "小鱼儿",
    "随风",
    "阿May",
    "打工人007",
    "橘子汽水",
    "北方的狼",
    "momo",
    "想去海边",
    "不想上班",
]
