package mqruntime

import ai.onnxruntime.OnnxTensor
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Which frame and token every step looks at, how steps end, words and times: Python's test_transducer.py. */
class TransducerTest {
    private val tokens = listOf("<pad>", " a", "b", " c", ".", " ", "<0xC3>", "<0xA9>", "<blank>")
    private val blank = 8
    private val settings = TransducerSettings(
        blank = blank, start = blank, end = emptyList(), special = listOf(0, blank),
        durations = listOf(0, 1, 2, 3, 4), maxSymbols = 3, byteFallback = false, layers = 2, size = 3,
        hop = HOP, window = 30 * RATE,
    )
    private val rnnt = settings.copy(durations = emptyList())
    private val asked = ArrayList<Pair<Int, Int>>()
    private val given = ArrayList<Int>()
    private var open = 0

    private fun outputs(vararg made: Pair<String, Pair<FloatArray, LongArray>>): Outputs {
        val tensors = made.associate { (name, value) -> name to Session.tensor(value.first, *value.second) }
        open += 1
        return Outputs(tensors) {
            open -= 1
            tensors.values.forEach(OnnxTensor::close)
        }
    }

    private inner class Encoder : Graph {
        /** A frame for every hop that has begun; its values are its number. */
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            val frames = (feeds.getValue("pcm").info.shape[1].toInt() + HOP - 1) / HOP
            val numbers = FloatArray(frames * 3) { (it / 3).toFloat() }
            return outputs("frames" to (numbers to longArrayOf(1, frames.toLong(), 3)))
        }
    }

    private inner class Predictor : Graph {
        /** Counts the tokens, in the hidden state of the last layer, and remembers them. */
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            given += feeds.getValue("tokens").longBuffer.get(0).toInt()
            val count = FloatArray(3) { feeds.getValue("past_hidden_1").floats()[0] + 1 }
            val shape = longArrayOf(1, 1, 3)
            val states = listOf("present_hidden_0", "present_cell_0", "present_cell_1", "present_hidden_1", "prediction")
            return outputs(*states.map { it to (count to shape) }.toTypedArray())
        }
    }

    private inner class Joint(private val script: Map<Pair<Int, Int>, Pair<Int, Int>>, private val count: Int) : Graph {
        /** Says what a script says of a frame and a number of tokens; else blank and one frame. */
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            val pair = feeds.getValue("frame").floats()[0].toInt() to feeds.getValue("prediction").floats()[0].toInt() - 1
            asked += pair
            val (token, ahead) = script[pair] ?: (blank to 1)
            val logits = FloatArray(tokens.size).also { it[token] = 5f } to longArrayOf(1, 1, tokens.size.toLong())
            if (count == 0) return outputs("logits" to logits)
            val durations = FloatArray(count).also { it[ahead] = 5f } to longArrayOf(1, 1, count.toLong())
            return outputs("logits" to logits, "durations" to durations)
        }
    }

    private fun opened(script: Map<Pair<Int, Int>, Pair<Int, Int>>, settings: TransducerSettings = this.settings): Recognizer {
        asked.clear()
        given.clear()
        val graphs = mapOf(
            "encoder" to Encoder(), "predictor" to Predictor(), "joint" to Joint(script, settings.durations.size),
        )
        val manifest = Manifest(
            "parakeet_tdt", "transducer", RATE, graphs.mapValues { "${it.key}.onnx" }, "vocabulary.json.gz",
            emptyList(), 320, null, null, emptyMap(), null, transducer = settings,
        )
        return Recognizer(manifest, graphs, Vocabulary(tokens))
    }

    private fun pcm(frames: Int) = FloatArray(frames * HOP - 5) { 0.1f }

    private fun times(result: Result) = result.segments.map { Triple(it.start, it.end, it.text) }

    private val spoken = mapOf(
        (0 to 0) to (1 to 0), // " a", stays
        (0 to 1) to (2 to 2), // "b" for two frames
        (2 to 2) to (blank to 3),
        (5 to 2) to (3 to 1),
        (6 to 3) to (4 to 4), // "." where " c" ended
    )

    @Test
    fun durationsLeadFromFrameToFrame() {
        val texts = ArrayList<String>()
        val result = opened(spoken).transcribe(pcm(9), onText = texts::add)
        assertEquals(listOf(0 to 0, 0 to 1, 2 to 2, 5 to 2, 6 to 3), asked)
        assertEquals(listOf(blank, 1, 2, 3), given)
        assertEquals("ab c." to listOf(1, 2, 3, 4), result.text to result.tokens)
        assertEquals(listOf(Triple(0.0, 0.16, "ab"), Triple(0.4, 0.48, "c.")), times(result))
        assertEquals(listOf(listOf(1, 2), listOf(3, 4)), result.segments.map { it.tokens })
        val share = Math.exp(5.0) / (Math.exp(5.0) + tokens.size - 1)
        for (segment in result.segments) assertEquals(share, segment.score!!, 1e-6)
        assertEquals(listOf("", "", "a", "ab", "ab", "ab c", "ab c."), texts)
        assertEquals(0, open)
    }

    @Test
    fun blankGoesOnEvenWithDurationNone() {
        opened(mapOf((0 to 0) to (blank to 0), (1 to 0) to (blank to 4))).transcribe(pcm(8))
        assertEquals(listOf(0 to 0, 1 to 0, 5 to 0, 6 to 0, 7 to 0), asked)
        assertEquals(listOf(blank), given)
    }

    @Test
    fun tokenWithoutADurationMayRepeatToTheLimit() {
        val endless = (0..98).associate { (0 to it) to (2 to 0) }
        assertEquals(List(3 * 4 - 1) { 2 }, opened(endless).transcribe(pcm(4)).tokens)
        assertEquals(1, opened(endless, settings.copy(maxSymbols = 1)).transcribe(pcm(1)).tokens.size)
    }

    @Test
    fun rnntGoesOnAfterBlanksAndManySymbols() {
        val script = mapOf(
            (1 to 0) to (1 to 0), (1 to 1) to (2 to 0), (3 to 2) to (2 to 0), (3 to 3) to (2 to 0), (3 to 4) to (3 to 0),
        )
        val result = opened(script, rnnt).transcribe(pcm(6))
        val expected = listOf(0 to 0, 1 to 0, 1 to 1, 1 to 2, 2 to 2, 3 to 2, 3 to 3, 3 to 4, 4 to 5, 5 to 5)
        assertEquals(expected, asked) // three in frame 3, and no blank needed
        assertEquals(listOf(Triple(0.08, 0.32, "abbb"), Triple(0.24, 0.32, "c")), times(result))
        assertEquals(listOf(blank, 1, 2, 2, 2, 3), given)
        assertEquals(0, open)
    }

    @Test
    fun rnntKeepsPunctuationWhereItIs() {
        val script = mapOf((1 to 0) to (1 to 1), (4 to 1) to (4 to 1))
        assertEquals(listOf(Triple(0.08, 0.4, "a.")), times(opened(script, rnnt).transcribe(pcm(6))))
        assertEquals(listOf(Triple(0.08, 0.16, "a.")), times(opened(script).transcribe(pcm(6))))
    }

    @Test
    fun endsSpecialTokensBytesAndLoneSpaces() {
        val script = mapOf((0 to 0) to (1 to 1), (1 to 1) to (0 to 1), (2 to 2) to (2 to 1), (3 to 3) to (3 to 1))
        val whole = opened(script).transcribe(pcm(6))
        assertEquals("ab c" to listOf(1, 2, 3), whole.text to whole.tokens)
        assertEquals("a", opened(script, settings.copy(end = listOf(0))).transcribe(pcm(6)).text)
        val bytes = (0..4).zip(listOf(5, 3, 6, 7, 5)) { at, token -> (at to at) to (token to 1) }.toMap()
        val result = opened(bytes, settings.copy(byteFallback = true)).transcribe(pcm(6))
        assertEquals("c\u00e9" to listOf("c\u00e9"), result.text to result.segments.map { it.text })
        opened(emptyMap(), settings.copy(start = 2)).transcribe(pcm(2))
        assertEquals(listOf(2), given)
    }

    @Test
    fun longRecordingsAreGivenInPieces() {
        val sound = FloatArray(5 * RATE) { if (it % RATE < RATE * 4 / 5) 0.3f else 0.001f }
        val script = mapOf((0 to 0) to (1 to 1), (10 to 1) to (3 to 2))
        val result = opened(script, settings.copy(window = 2 * RATE)).transcribe(sound)
        assertEquals("a c a c a c", result.text)
        val later = result.segments[2].start
        assertTrue(later > 1.8 && later < 2)
        assertEquals(later + 0.8, result.segments[3].start, 1e-3)
    }

    @Test
    fun whatIsNotGreedyIsRefused() {
        for (options in listOf(DecodingOptions(beamSize = 3), DecodingOptions(temperature = listOf(0.0, 0.2)))) {
            assertThrows(ModelError::class.java) { opened(spoken).transcribe(pcm(9), options = options) }
        }
        assertEquals("ab c.", opened(spoken).transcribe(pcm(9), options = DecodingOptions(temperature = listOf(0.0))).text)
    }

    @Test
    fun graphsThatDoNotFitTheManifest() {
        for ((wrong, message) in listOf(
            settings.copy(special = listOf(9)) to "names the token 9, the model gives logits of 9",
            settings.copy(size = 4) to "'frames' is float32",
            settings.copy(layers = 3) to "no tensor 'present_hidden_2'",
        )) {
            val error = assertThrows(ModelError::class.java) { opened(spoken, wrong).transcribe(pcm(3)) }
            assertTrue(message in error.message, error.message)
            assertEquals(0, open)
        }
    }

    @Test
    fun settingsThatCannotBeAreRefused() {
        settings.check(RATE, 320)
        assertEquals(blank, settings.highestToken)
        assertFalse(settings.isText(blank))
        assertTrue(settings.isText(1))
        for (wrong in listOf(
            settings.copy(blank = -1), settings.copy(start = -1), settings.copy(end = listOf(-1)),
            settings.copy(special = listOf(-1)), settings.copy(durations = listOf(0, -1)),
            settings.copy(durations = List(257) { 0 }), settings.copy(maxSymbols = 0), settings.copy(layers = 0),
            settings.copy(size = 0), settings.copy(hop = 0), settings.copy(window = 10),
        )) {
            val error = assertThrows(IllegalArgumentException::class.java) { wrong.check(RATE, 320) }
            assertTrue(error.message!!.startsWith("transducer"), error.message)
        }
    }

    @Test
    fun manifestsHaveTheFieldOfTheirTask() {
        val json = String(Bundle.open(TestData.bundle("random-tdt")).bytes("model.json"))
        val manifest = Manifest.parse(json.toByteArray(), "model.json")
        assertEquals(listOf(0, 1, 2, 3, 4), manifest.transducer!!.durations)
        for (changed in listOf(
            json.replace("\"task\":\"transducer\"", "\"task\":\"seq2seq\""),
            json.replace("\"byte_fallback\":false", "\"byte_fallback\":0"),
            json.replace("\"layers\":2", "\"layers\":0"),
            json.replace("\"transducer\":{", "\"transduce\":{"),
            json.replace("\"hop\":1280,", ""),
        )) {
            assertTrue(changed != json)
            assertThrows(ManifestError::class.java) { Manifest.parse(changed.toByteArray(), "model.json") }
        }
    }

    private companion object {
        const val RATE = 16_000
        const val HOP = 1280
    }
}
