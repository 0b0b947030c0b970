"""Units of measurement and what else is counted: what may stand behind a number without changing it."""

import re
from dataclasses import dataclass
from fractions import Fraction

# One line a unit: what it measures, how many of the first unit of that kind it is, its spellings.
# Letters that are as likely unknowns (a, d, n, t, x) are no units.
_TABLE = """
length 1 m meter meters metre metres 米 公尺
length 1/1000000000 nm nanometer nanometers
length 1/1000000 µm μm um micrometer micrometers micron microns
length 1/1000 mm millimeter millimeters millimetre millimetres 毫米
length 1/100 cm cms centimeter centimeters centimetre centimetres 厘米 公分
length 1/10 dm decimeter decimeters decimetre decimetres 分米
length 1000 km kms kilometer kilometers kilometre kilometres 千米 公里
length 127/5000 in inch inches 英寸
length 381/1250 ft foot feet 英尺
length 1143/1250 yd yard yards 码
length 201168/125 mi mile miles 英里
time 1 s sec secs second seconds 秒 秒钟
time 1/1000000 µs μs
time 1/1000 ms millisecond milliseconds 毫秒
time 60 min mins minute minutes 分钟 分
time 3600 h hr hrs hour hours 小时 时
time 86400 day days 天 日
time 604800 week weeks 周
months 1 month months 个月 月
months 12 year years yr yrs 年 岁
mass 1 kg kgs kilogram kilograms kilogramme kilogrammes 千克 公斤
mass 1/1000 g gm gms gram grams gramme grammes 克
mass 1/1000000 mg milligram milligrams 毫克
mass 1000 ton tons tonne tonnes 吨
pounds 1 lb lbs pound pounds 磅
pounds 1/16 oz ounce ounces 盎司
volume 1 L l liter liters litre litres 升
volume 1/1000 cc mL ml milliliter milliliters millilitre millilitres 毫升
gallons 1 gal gallon gallons 加仑
area 1 hectare hectares ha 公顷
acres 1 acre acres 英亩 亩
angle 1 ° degree degrees deg degs 度
grads 1 grad
radians 1 rad rads radian radians 弧度
percent 1 % percent pct percentage 百分点
points 1 pt pts point points
speed 1 mph
speed 15625/25146 kmph kmh kph
knots 1 knot knots
force 1 newton newtons 牛 牛顿
force 1000 kN
energy 1 joule joules 焦 焦耳
energy 1000 kJ
energy 3600 Wh
energy 3600000 kWh
energy 3600000000 MWh
calories 1 cal calorie calories
calories 1000 kcal
electronvolts 1 eV
power 1 watt watts 瓦
power 1000 kW 千瓦
power 1000000 MW
voltage 1 volt volts 伏 伏特
voltage 1/1000 mV
voltage 1000 kV
current 1 ampere amperes amp amps 安 安培
current 1/1000 mA
resistance 1 Ω ohm ohms 欧 欧姆
resistance 1000 kΩ
frequency 1 Hz hertz 赫兹
frequency 1000 kHz
frequency 1000000 MHz
frequency 1000000000 GHz
rotation 1 rpm
pictures 1 fps
beats 1 bpm
pressure 1 Pa pascal pascals 帕
pressure 1000 kPa
pressure 1000000 MPa
pressure 100000 bar
pressure 101325 atm
pounds_of_pressure 1 psi
sound 1 dB decibel decibels
pixels 1 px pixel pixels
concentration 1 ppm
charge 1 coulomb coulombs
substance 1 mol mols mole moles 摩尔
bytes 1 byte bytes
bytes 1000 kB KB
bytes 1000000 MB
bytes 1000000000 GB
bytes 1000000000000 TB
kelvin 1 kelvin
celsius 1 celsius °C 摄氏度
fahrenheit 1 fahrenheit °F
dollars 1 dollar dollars USD usd 美元
dollars 1/100 cent cents ¢
euros 1 euro euros EUR 欧元
yuan 1 yuan RMB 元 块 块钱 人民币
yuan 1/10 角
rupees 1 rupee rupees
yen 1 yen
won 1 won
pennies 1 penny pennies pence
quantity 1 unit units 个单位 单位
quantity 1 个 只 人 名 位 辆 本 支 张 条 件 棵 头 匹 座 栋 间 朵 颗 粒 块 片 次 种 组 份 套 双 对 把 台
quantity 1 架 艘 杯 瓶 盒 包 袋 箱 箱子 根 枝 盏 道 题 页 步 圈 倍 层 排 行 列 株 匙 面 口 顶 幅 首 篇
quantity 1 盘 碗 册
"""
_CAPITALS = "NJWVAKCF"  # only behind a space: 5N is as likely five times an unknown

# Count nouns are an open class: plurals are taken, and these, whose plural has no s.
_NO_S = """
people persons men women children kids teeth feet geese mice sheep fish deer cattle dice oxen police aircraft
species series offspring salmon bison moose bacteria vertices indices axes matrices radii data media furniture
luggage fruit money dollar
"""
_TAILS = """
total altogether overall only exactly approximately roughly left remaining remain remains visible present
correct here there now today fold each apiece old tall long wide high deep away apart sharp yes sure
"""
# What ends the noun behind a number: "3 apples in the bowl".
_FUNCTION_WORDS = """
per is are was were be does has thus in on of as at to by for from with within without between among because
since so and that which who where when while but if then hence therefore it they this these those the a an
shown seen given based according
"""
_COUNTED = frozenset(f"{_NO_S} {_TAILS}".split())
_ENDS_NOUN = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class Unit:
    """What a number counts."""

    kind: str
    """What it measures, with its power, such as length^2; units of two kinds cannot be compared."""
    factor: Fraction
    """How many of the kind's first unit it is."""


PERCENT, RATIO = Unit("percent", Fraction(1)), Unit("ratio", Fraction(1))


def _read_table() -> dict[str, tuple[str, Fraction]]:
    units: dict[str, tuple[str, Fraction]] = {}
    for line in _TABLE.split("\n"):
        kind, factor, *spellings = line.split() or ("", "")
        units.update((spelling, (kind, Fraction(factor))) for spelling in spellings)
    return units


_UNITS = _read_table()
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}
_NAMES = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
_ONE = (
    rf"(?:(?P<before>square|sq|cubic|cu|平方|立方)(?:\.|(?<=[方]))?[ -]?)?(?P<name>{_NAMES})"
    r"(?![A-Za-z])\.?(?:(?: ?\^ ?\{?)?(?P<power>[23])(?!\d)\}?\^?| (?P<after>squared|cubed))?"
)
_ANY = re.sub(r"\?P<\w+>", "?:", _ONE)
_UNIT = re.compile(
    rf"[ -]?\(?{_ONE}(?P<per>(?: ?/ ?| ?\* ?| ?每 ?| per | an? (?=hour|minute|second|day)){_ANY})*\)?"
)
# What physics multiplies and divides: N/m, kg·m/s. By themselves N, J, W and V are as likely unknowns.
_PHYSICS = re.compile(
    r"[ -]?(?:[kM]?[NJWVA]|kg|g)(?:[ ·*/.](?:kg|m|s|K|C|A|h|mol)(?:\^?\{?-?\d\}?)?)+(?![A-Za-z\d])"
)
_RATE = re.compile(rf"(?: ?/ ?| per ){_ANY}")
_PART = re.compile(f"{_ONE}(?P<per>(?!))?")
_CAPITAL = re.compile(rf" [{_CAPITALS}](?![\w^])")
_SPELLED_DEGREE = re.compile(r"[ -]?(?:degrees?|°|deg\.?) ?(?:celsius|fahrenheit|[CF](?!\w))", re.IGNORECASE)
_WORD = re.compile("[ -]?\\(?([^\\W\\d_\u4e00-\u9fff]{2,})(?=[\\W_]|$)")


def unit_at(text: str, start: int) -> tuple[Unit, int] | None:
    """The unit of measurement that begins at `start`, perhaps behind a space, and where it ends."""
    if degree := _SPELLED_DEGREE.match(text, start):
        kind = "fahrenheit" if degree[0].lower().endswith(("f", "fahrenheit")) else "celsius"
        return Unit(kind, Fraction(1)), degree.end()
    if match := _PHYSICS.match(text, start) or _RATE.match(text, start):
        return Unit("".join(match[0].split()), Fraction(1)), match.end()
    if match := _UNIT.match(text, start) or _UNIT.match(text.lower(), start):
        return _unit(match), match.end()
    if match := _CAPITAL.match(text, start):
        return Unit(match[0].strip(), Fraction(1)), match.end()
    return None


def _unit(match: re.Match[str]) -> Unit:
    if match["per"]:
        return _compound(match[0])
    kind, factor = _UNITS[match["name"]]
    power = _POWERS.get(match["before"] or "", 0) or int(match["power"] or 0)
    power = power or {"squared": 2, "cubed": 3}.get(match["after"] or "", 1)
    return Unit(kind if power == 1 else f"{kind}^{power}", factor**power)


def _compound(text: str) -> Unit:
    """Of km/h the speed, length/time; of what is multiplied, such as N*m, just the name."""
    if "*" in text:
        return Unit("".join(text.split()), Fraction(1))
    first, *others = [_unit(part) for part in _PART.finditer(text)]
    kind, factor = first.kind, first.factor
    for other in others:
        kind, factor = f"{kind}/{other.kind}", factor / other.factor
    return Unit(kind, factor)


def is_unit(word: str) -> bool:
    """Whether `word` by itself is a unit's name."""
    return word in _UNITS or word.lower() in _UNITS


def counts_things(text: str, start: int, *, one: bool) -> bool:
    """Whether only a counted noun, words of no value, or the rest of a sentence stand behind the number at
    `start`; `one` allows the singular. "3 red cars" does, "3 squared", "3 wrong" and "3 x" do not.
    """
    noun = any_word = False
    while match := _WORD.match(text, start):
        word = match[1].casefold()
        if word in _ENDS_NOUN:
            break
        any_word, start = True, match.end()
        plural = word.endswith("s") and len(word) > 3 and not word.endswith("ss")
        noun |= plural or word in _COUNTED
    return noun or not any_word or one
