"""Word lists of languages other than English. Parts use different names, so they share no sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


def words(text: str) -> list[str]:
    """Return the words between blanks."""
    return text.split()


def phrases(text: str) -> list[str]:
    """Return the phrases between bars."""
    return text.split("|")


@dataclasses.dataclass(frozen=True)
class Language:
    """A language.

    Attributes
    ----------
    pace
        Characters that a voice speaks per second, for each word per minute of its rate: a first guess.
    names
        The names of each part.
    clause, joint
        The form of a clause, and what joins two of them.
    verbs, things, places
        The words.
    """

    pace: float
    names: Mapping[str, list[str]]
    clause: str
    joint: str
    verbs: list[str]
    things: list[str]
    places: list[str]

    def make_sentence(self, generator: np.random.Generator, part: str, characters: int) -> str:
        """Return a sentence of a part, with at least this many characters.

        Examples
        --------
        >>> LANGUAGES["de"].make_sentence(np.random.default_rng(0), "demo-dev", 30)
        'Renate beschrieb die Jacke am Fluss'
        """

        def clause() -> str:
            kinds = {"verb": self.verbs, "thing": self.things, "place": self.places}
            return self.clause.format(**{kind: of[generator.integers(len(of))] for kind, of in kinds.items()})

        sentence = self.names[part][generator.integers(len(self.names[part]))] + clause()
        while len(sentence) < characters:
            sentence += self.joint + clause()
        return sentence


#: By the name that eSpeak NG gives to the voice of the language.
LANGUAGES = {
    "de": Language(
        pace=0.105,
        names={
            "demo-train": words(
                "Anna Bernd Clara Dieter Emil Franziska Gustav Heike Ines Jonas Karin Ludwig Monika Norbert Otto "
                "Paula Rainer Sabine Thomas Ulrike Viktor Wolfgang Yvette Zoe"
            ),
            "demo-dev": words("Birgit Erwin Gisela Johann Oskar Renate"),
            "demo-test": words("Andrea Bruno Dorothea Egon Frieda Heinrich Jutta Kurt Lena Manfred Rosa Stefan"),
        },
        clause=" {verb} {thing} {place}",
        joint=" und",
        verbs=words(
            "suchte fand kaufte malte zeigte holte brachte zeichnete versteckte putzte reparierte verlor "
            "entdeckte bewunderte bemerkte beschrieb sammelte verschenkte verkaufte vergrub bewachte trug "
            "tauschte lobte"
        ),
        things=phrases(
            "den Apfel|den Brief|den Hammer|den Koffer|den Löffel|den Mantel|den Ofen|den Pinsel|den Ring|"
            "den Schlüssel|den Spiegel|den Teller|den Vogel|den Wagen|die Blume|die Decke|die Fahne|die Flasche|"
            "die Geige|die Gitarre|die Jacke|die Katze|die Kiste|die Lampe|die Leiter|die Münze|die Pfeife|"
            "die Schaufel|die Tasche|die Uhr|das Bild|das Boot|das Buch|das Fahrrad|das Fenster|das Kissen|"
            "das Messer|das Pferd|das Seil|das Sofa"
        ),
        places=phrases(
            "im Garten|auf dem Markt|hinter der Kirche|neben dem Brunnen|unter der Brücke|vor dem Haus|am Fluss|"
            "im Keller|auf dem Dach|in der Küche|bei den Nachbarn|am Bahnhof|im Wald|auf der Wiese|in der Schule|"
            "am Hafen|hinter dem Zaun|neben der Mühle|im Schloss|auf der Insel|vor der Stadt|am Ufer|im Museum|"
            "in der Werkstatt"
        ),
    ),
    "cmn": Language(
        pace=0.025,
        names={
            "demo-train": words(
                "王芳 李伟 张敏 刘洋 陈静 杨帆 赵磊 黄丽 周强 吴霞 徐明 孙娜 马超 朱红 胡军 郭艳 何平 高峰 林涛 "
                "罗兰 郑凯 梁玉 谢文 宋佳"
            ),
            "demo-dev": words("唐杰 许晴 韩冰 冯刚 邓梅 曹阳"),
            "demo-test": words("彭飞 曾琳 萧雨 田野 董洁 袁华 潘云 于波 蒋欣 蔡琴 余乐 杜鹃"),
        },
        clause="{place}{verb}{thing}",
        joint="又",
        verbs=words(
            "找到了 买了 卖了 看见了 画了 拿走了 带来了 修好了 打开了 洗了 送了 借了 丢了 发现了 收好了 搬走了 "
            "换了 擦了 藏了 检查了 称赞了 介绍了 描写了 挑选了"
        ),
        things=words(
            "苹果 椅子 雨伞 钥匙 书包 手表 镜子 画 信 鞋子 帽子 花瓶 自行车 小船 桌子 毛衣 茶杯 电话 报纸 铅笔 "
            "盘子 地图 蜡烛 篮子 梯子 箱子 笛子 吉他 白马 小猫 西瓜 面包 风筝 灯笼 剪刀 毛巾 枕头 字典 照片 礼物"
        ),
        places=words(
            "在花园里 在市场上 在河边 在桥下 在学校门口 在厨房里 在车站 在图书馆 在山上 在海边 在屋顶上 在树下 "
            "在邻居家 在商店里 在公园里 在办公室 在教室里 在湖边 在旅馆 在码头 在城外 在院子里 在博物馆 在工厂"
        ),
    ),
}
