package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.ByteArrayOutputStream
import java.util.zip.GZIPOutputStream

class DecodingTest {
    @Test
    fun repeatsMergeUnlessABlankIsBetween() {
        assertEquals(listOf(1, 2, 2), Ctc.collapse(intArrayOf(0, 1, 1, 0, 2, 0, 2, 2), 0))
        assertEquals(emptyList<Int>(), Ctc.collapse(intArrayOf(), 0))
        assertEquals(listOf(1), Ctc.greedy(arrayOf(floatArrayOf(0f, 1f), floatArrayOf(3f, 3f)), 0))
    }

    @Test
    fun bestLabelIsASoftmax() {
        val (index, score) = Keywords.bestLabel(floatArrayOf(0f, 1f, 1000f))
        assertEquals(2, index)
        assertEquals(1.0, score)
        assertEquals(1 / (1 + Math.E), Keywords.bestLabel(floatArrayOf(1f, 0f)).let { 1 - it.second }, 1e-9)
    }

    @Test
    fun byteLevelUnitsAreBytes() {
        val vocabulary = Vocabulary(listOf("Ġhello", "Ġw", "Ã¶", "rld", "ĉ", "Ã", "<|x|>"))
        assertEquals(" hello wörld\t", vocabulary.bpeText(listOf(0, 1, 2, 3, 4)))
        assertEquals("\uFFFD", vocabulary.bpeText(listOf(5)))
    }

    @Test
    fun wordDelimiterIsASpace() {
        val vocabulary = Vocabulary(listOf("a", "|", "b"))
        assertEquals("a  b", vocabulary.ctcText(listOf(1, 0, 1, 1, 2), CtcSettings(9, 1)))
        assertEquals("a|b", vocabulary.ctcText(listOf(0, 1, 2), CtcSettings(9, null)))
    }

    @Test
    fun textIsCleanedUpWhereTheTokenizerDoes() {
        val vocabulary = Vocabulary(listOf("<pad>", " ") + ".?'aimnst".map { it.toString() })
        val tokens = " is it 's . ain 't  .. a ' m ? ".map { vocabulary.tokens.indexOf(it.toString()) }
        assertEquals("is it 's . ain 't  .. a ' m ?", vocabulary.ctcText(tokens, CtcSettings(0, 1)))
        assertEquals("is it's. ain 't .. a'm?", vocabulary.ctcText(tokens, CtcSettings(0, 1, cleanUp = true)))
    }

    @Test
    fun bytesAreUtf8WhereTheTokenizerFallsBackToThem() {
        val vocabulary = Vocabulary(listOf("<0xC3>", "<0xa9>", " caf", " <0x41>", "<0x41", ""))
        val bytes = CtcSettings(9, null, byteFallback = true)
        val spelled = vocabulary.ctcText(listOf(2, 0, 1, 0, 3, 4), bytes)
        assertEquals("caf\uFFFD\uFFFD\uFFFD <0x41><0x41", spelled)
        assertEquals("caf\u00e9", vocabulary.ctcText(listOf(2, 0, 1, 3), bytes.copy(wordDelimiter = 3)))
        assertEquals("caf\u00e9", vocabulary.ctcText(listOf(2, 0, 5, 1), bytes))
        assertEquals("caf<0xC3><0xa9>", vocabulary.ctcText(listOf(2, 0, 1), CtcSettings(9, null)))
    }

    @Test
    fun wordsEndAtADelimiterAndBeforeATokenThatOpensOne() {
        val tokens = listOf(1, 1, 2, 3, 1, 3, 3, 4).mapIndexed { i, token -> Ctc.Spoken(token, 2 * i, 2 * i + 1, 1.0) }
        fun grouped(delimiter: Int?, vararg opening: Int) =
            Ctc.words(tokens, delimiter) { it in opening }.map { word -> word.map { it.start } }
        assertEquals(listOf(listOf(0, 2, 4, 6, 8, 10, 12, 14)), grouped(null))
        assertEquals(listOf(listOf(0, 2, 4), listOf(8), listOf(14)), grouped(3))
        assertEquals(listOf(listOf(0, 2, 4), listOf(6, 8), listOf(10), listOf(12, 14)), grouped(null, 3))
        assertEquals(listOf(listOf(4), listOf(6), listOf(10), listOf(12, 14)), grouped(1, 3, 1))
        assertEquals(emptyList<List<Ctc.Spoken>>(), Ctc.words(emptyList(), 1) { true })
    }

    @Test
    fun vocabularyIsReadStrictly() {
        assertEquals(listOf("a", "ü"), Vocabulary.parse(gzip("[\"a\",\"ü\"]"), "v").tokens)
        for (text in listOf("{}", "[1]", "[\"a\"", "", "[\"a\"] x", "['a']", "[NaN]")) {
            val error = assertThrows(ModelError::class.java, { Vocabulary.parse(gzip(text), "v.gz") }, text)
            assertTrue(error.message.startsWith("v.gz: "), error.message)
        }
        assertThrows(ModelError::class.java) { Vocabulary.parse("no gzip".toByteArray(), "v") }
        val bomb = assertThrows(ModelError::class.java) { Vocabulary.parse(gzip(" ".repeat(1 shl 25)), "v") }
        assertTrue("more than" in bomb.message)
    }

    @Test
    fun jsonIsReadStrictly() {
        assertEquals(mapOf("a" to listOf(1L, 2.5, null, true, "é")), parseJson("{\"a\":[1,2.5,null,true,\"é\"]}".toByteArray()))
        val wrong = listOf(
            "", "{\"a\":1,\"a\":2}", "[1,]", "{a:1}", "NaN", "[Infinity]", "[1]1", "// c\n1", "[01]", "\"\u0001\"", "\uFEFF1",
            "[123456789012345678901234567890]", "[9223372036854775808]", "[".repeat(100_000), nested(65),
        )
        parseJson(nested(64).toByteArray())
        for (text in wrong) {
            assertThrows(IllegalArgumentException::class.java, { parseJson(text.toByteArray()) }, text.take(40))
        }
        assertThrows(IllegalArgumentException::class.java) { parseJson(byteArrayOf('"'.code.toByte(), -1, '"'.code.toByte())) }
    }

    @Test
    fun canonicalJsonIsPythons() {
        val spelled = listOf(
            "null", "true", "-7", "[]", "{}", "{\"a\":[1,2.0],\"é\":{\"\uFF5E\":1,\"\uD83D\uDE00\":2}}",
            "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u007F\u2028\"", "-0.0", "0.1", "0.0001", "1e-05",
            "1000000000000000.0", "1e+16", "1.5e+300", "5.684341886080802e-14", "5e-324", "1.7976931348623157e+308",
        )
        for (text in spelled) assertEquals(text + "\n", String(canonicalJson(parseJson(text.toByteArray()))))
        assertThrows(IllegalArgumentException::class.java) { canonicalJson(parseJson("1e400".toByteArray())) }
    }

    private fun nested(levels: Int) = "[".repeat(levels) + "]".repeat(levels)

    private fun gzip(text: String): ByteArray {
        val bytes = ByteArrayOutputStream()
        GZIPOutputStream(bytes).use { it.write(text.toByteArray()) }
        return bytes.toByteArray()
    }

    /** As tests/exporters/test_whisper_defaults.py. */
    @Test
    fun addedWordsAreTextAndNoTimes() {
        val word = Told.VOCABULARY
        val settings = Told.settings.copy(words = listOf(word))
        assertEquals(listOf(3, word), listOf(3, Told.NO_SPEECH, word, settings.times.first + 7, word + 1).filter(settings::isText))
        val begin = settings.timestampBegin
        val (found, _) = Timestamps.phrases(settings, listOf(begin, 3, word, begin + 9), 50)
        assertEquals(listOf(listOf(3, word)), found.map { it.tokens })
        val scores = FloatArray(Told.VOCABULARY + 2)
        scores[word] = 30f
        Timestamps.applyTimestampRules(scores, settings, listOf(begin))
        assertEquals(word, scores.indices.maxBy { scores[it] })
        assertEquals(Float.NEGATIVE_INFINITY, scores[word + 1])
    }

    @Test
    fun languageAndTaskAreTheModelsOwn() {
        val settings = Told.settings.copy(
            languages = mapOf("en" to 3, "fr" to 4), transcribe = 5, translate = 2, language = "fr", task = "translate",
        )
        settings.check()
        assertEquals(listOf(Told.START, 4, 2, Told.NO_TIMESTAMPS), Whisper.promptTokens(settings, "fr"))
        assertThrows(IllegalArgumentException::class.java) { settings.copy(language = "de").check() }
        assertThrows(IllegalArgumentException::class.java) { settings.copy(translate = null).check() }
    }
}
