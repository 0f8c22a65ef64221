"""Names of months, in full and short, as English and its neighbours in Europe write them (CLDR 46),
with the cases in which Slavic languages and Finnish have them in dates; no word of one language is
another month in another. (Croatian's are: its ``listopad`` is October, in Czech and Polish
November.)"""

_NAMES = (
    "january jan januar jänner janvier janv enero ene gennaio gen janeiro januari ianuarie ian "
    "stycznia styczeń sty ledna leden led tammikuuta tammikuu tammi ocak oca "
    "января январь янв січня січень січ",
    "february feb februar feber février fevrier févr fevr fév fev febrero febbraio fevereiro "
    "februari februarie lutego luty lut února únor úno helmikuuta helmikuu helmi şubat şub "
    "февраля февраль февр фев лютого лютий лют",
    "march mar märz maerz mrz mär mars marzo março marco maart mrt marts martie marca marzec "
    "března březen bře maaliskuuta maaliskuu maalis mart марта март мар березня березень бер",
    "april apr avril avr abril abr aprile aprilie kwietnia kwiecień kwi dubna duben dub "
    "huhtikuuta huhtikuu huhti nisan nis апреля апрель апр квітня квітень квіт",
    "may mai mayo maggio mag maio mei maj maja května květen kvě toukokuuta toukokuu touko "
    "mayıs мая май травня травень трав",
    "june jun juni juin junio giugno giu junho iunie iun czerwca czerwiec cze června červen čvn "
    "kesäkuuta kesäkuu kesä haziran haz июня июнь июн червня червень черв",
    "july jul juli juillet juil julio luglio lug julho iulie iul lipca lipiec lip července "
    "červenec čvc heinäkuuta heinäkuu heinä temmuz tem июля июль июл липня липень лип",
    "august aug août aout aoû agosto ago augustus augusti sierpnia sierpień sie srpna srpen srp "
    "elokuuta elokuu elo ağustos ağu августа август авг серпня серпень серп",
    "september sep sept septembre septiembre setiembre settembre set setembro septembrie września "
    "wrzesień wrz září zář syyskuuta syyskuu syys eylül eyl сентября сентябрь сент сен вересня "
    "вересень вер",
    "october oct oktober okt octobre octubre ottobre ott outubro out octombrie października "
    "październik paź října říjen říj lokakuuta lokakuu loka ekim eki октября октябрь окт жовтня "
    "жовтень жовт",
    "november nov novembre noviembre novembro noiembrie noi listopada listopad lis listopadu "
    "marraskuuta marraskuu marras kasım kas ноября ноябрь нояб ноя листопада листопад лист",
    "december dec dezember dez décembre decembre déc diciembre dic dicembre dezembro decembrie "
    "desember des grudnia grudzień gru prosince prosinec pro joulukuuta joulukuu joulu aralık ara "
    "декабря декабрь дек грудня грудень груд",
)
LETTERS = "a-zà-žșț\u0307а-яёіїєґ"
"""Of their names, in lower case, as a class of a regular expression has them."""
MONTHS: dict[str, int] = {
    word: number for number, words in enumerate(_NAMES, 1) for word in words.split()
}
"""The number of a month, from 1, by its name in lower case."""
