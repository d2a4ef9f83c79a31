package mqruntime

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.util.Random

/** Models without Whisper's windows: pieces, limits, spelling and settings, as Python's test_seq2seq.py. */
class Seq2SeqTest {
    private val settings = Seq2SeqSettings(
        start = listOf(0),
        end = listOf(1),
        suppress = emptyList(),
        suppressAtBegin = emptyList(),
        special = listOf(0, 1),
        spelling = Seq2SeqSettings.BYTE_FALLBACK,
        maxTokens = 12,
        tokensPerSecond = 6.5,
        window = 32000,
    )

    @Test
    fun piecesHoldEverySampleOnce() {
        val random = Random(1)
        for (samples in listOf(0, 1, 1999, 2000, 2001, 100_000)) {
            val pcm = FloatArray(samples) { 0.1f * random.nextGaussian().toFloat() }
            for (longest in listOf(2000, 7001, 300)) {
                val pieces = Seq2Seq.pieces(pcm, longest, 16000)
                assertArrayEquals((0 until samples).toList().toIntArray(), pieces.flatten().toIntArray())
                assertTrue(pieces.all { it.count() <= longest })
            }
        }
    }

    @Test
    fun piecesEndInPauses() {
        val pcm = FloatArray(16000 * 14) { if (it % 16000 < 12800) kotlin.math.sin(it * 0.2f) else 0f }
        val pieces = Seq2Seq.pieces(pcm, 3 * 16000, 16000)
        assertTrue(pieces.size > 4)
        for (piece in pieces.dropLast(1)) assertTrue((piece.last + 1) % 16000 >= 12800, piece.toString())
    }

    @Test
    fun textsEndWithTheirSound() {
        val most = listOf(0.1, 0.16, 0.5, 1.0, 1.9, 30.0).map { settings.mostTokens((it * 16000).toInt(), 16000) }
        assertEquals(listOf(1, 1, 2, 5, 11, 11), most)
    }

    @Test
    fun piecesAndBytesSpellText() {
        val vocabulary = Vocabulary(listOf("\u2581a", "b", "\u2581", "<0xC3>", "<0xA9>", "<0x0a>", "<0xZZ>", "\u2581é", ""))
        for ((tokens, text) in listOf(
            listOf(0, 1, 0) to "ab a",
            listOf(2, 2, 1) to " b",
            listOf(3, 4, 5) to "é\n",
            listOf(1, 3, 0, 4) to "b\ufffd a\ufffd",
            listOf(3, 4, 3) to "\ufffd\ufffd\ufffd",
            listOf(3, 8, 4, 1) to "éb",
            listOf(6, 7) to "<0xZZ> é",
            emptyList<Int>() to "",
        )) {
            assertEquals(text, vocabulary.byteFallbackText(tokens), tokens.toString())
        }
        assertThrows(ModelError::class.java) { vocabulary.byteFallbackText(listOf(9)) }
    }

    @Test
    fun settingsThatCannotBeAreRefused() {
        settings.check(16000, 895)
        assertEquals(1, settings.highestToken)
        assertFalse(settings.isText(1))
        assertTrue(settings.isText(2))
        for (wrong in listOf(
            settings.copy(start = emptyList()),
            settings.copy(maxTokens = 1),
            settings.copy(tokensPerSecond = 0.0),
            settings.copy(tokensPerSecond = Double.NaN),
            settings.copy(window = 800),
            settings.copy(special = listOf(-1)),
        )) {
            val error = assertThrows(IllegalArgumentException::class.java) { wrong.check(16000, 895) }
            assertTrue(error.message!!.startsWith("seq2seq"), error.message)
        }
    }

    @Test
    fun manifestsHaveTheFieldOfTheirTask() {
        val bundle = Bundle.open(TestData.bundle("random-moonshine"))
        val json = String(bundle.bytes("model.json"))
        val manifest = Manifest.parse(json.toByteArray(), "model.json")
        assertEquals(listOf(1), manifest.seq2seq!!.start)
        for (changed in listOf(
            json.replace("\"task\":\"seq2seq\"", "\"task\":\"transcribe\""),
            json.replace("\"spelling\":\"byte_fallback\"", "\"spelling\":\"words\""),
            json.replace("\"start\":[1]", "\"start\":[]"),
            json.replace("\"seq2seq\":{", "\"seq2sequence\":{"),
        )) {
            assertTrue(changed != json)
            assertThrows(ManifestError::class.java) { Manifest.parse(changed.toByteArray(), "model.json") }
        }
    }

    @Test
    fun silenceGivesNoText() {
        Recognizer.open(TestData.bundle("random-moonshine"), threads = 1).use { recognizer ->
            val silence = FloatArray(20000)
            val result = recognizer.transcribe(silence)
            assertEquals("" to emptyList<Int>(), result.text to result.tokens)
            val heard = recognizer.transcribe(silence, options = DecodingOptions(noSpeechThreshold = Double.POSITIVE_INFINITY))
            assertTrue(heard.tokens.isNotEmpty())
        }
    }
}
