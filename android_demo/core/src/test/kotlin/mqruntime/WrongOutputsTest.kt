package mqruntime

import ai.onnxruntime.OnnxTensor
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** Graphs that answer something else than their task takes: one line, whatever they answer. */
class WrongOutputsTest {
    @ParameterizedTest
    @ValueSource(strings = ["ctc", "keywords"])
    fun saysWhatPythonSays(task: String) {
        val pcm = FloatArray(2560) { 0.5f }
        val wrong = TestData.wrong.filter { (name, error) -> name.startsWith(task) && error != null }
        assertTrue(wrong.size >= 7, "$wrong")
        for ((name, expected) in wrong) {
            Recognizer.open(TestData.wrong(name), operators = null).use {
                val error = assertThrows(ModelError::class.java, { it.transcribe(pcm) }, name)
                assertEquals(expected!!.replace(" but logits;", " but nothing;"), error.message, name)
                if (task == "keywords") assertThrows(ModelError::class.java, { it.keywords(pcm) }, name)
            }
        }
    }

    /** A graph whose outputs are changed; what is taken out is closed with the others. */
    private class Changed(val graph: Graph, val change: (MutableMap<String, OnnxTensor>) -> Unit) : Graph {
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            val outputs = graph.run(feeds)
            return Outputs(outputs.toMutableMap().also(change), outputs)
        }
    }

    private val decoder = Told.Decoder { _, tokens -> Told.certain(if (tokens.size < 3) 4 else Told.END) }

    private fun refusal(
        changeEncoder: (MutableMap<String, OnnxTensor>) -> Unit = {},
        changeDecoder: (MutableMap<String, OnnxTensor>) -> Unit = {},
        vocabulary: List<String>? = null,
        settings: WhisperSettings = Told.settings,
        options: DecodingOptions = DecodingOptions(),
    ): String {
        val told = Told.recognizer(decoder)
        val graphs = mapOf(
            "encoder" to Changed(told.graphs.getValue("encoder"), changeEncoder),
            "decoder" to Changed(decoder, changeDecoder),
        )
        val known = vocabulary?.let(::Vocabulary) ?: told.vocabulary
        val recognizer = Recognizer(told.manifest.copy(whisper = settings), graphs, known)
        val error = assertThrows(ModelError::class.java) { recognizer.transcribe(Told.burst, options = options) }
        assertEquals(0, decoder.open)
        return error.message
    }

    private fun rename(outputs: MutableMap<String, OnnxTensor>, from: String, to: String) {
        for (name in outputs.keys.filter { it.startsWith(from) }) {
            outputs[name.replace(from, to)] = outputs.remove(name)!!
        }
    }

    @Test
    fun outputsOfAnotherName() {
        assertEquals(
            "a graph gives no tensor 'cross_key_0' but kross_key_0, kross_value_0; export the model again",
            refusal(changeEncoder = { rename(it, "cross_", "kross_") }),
        )
        assertEquals(
            "a graph gives no tensor 'logits' but logitz, present_key_0, present_value_0; export the model again",
            refusal(changeDecoder = { rename(it, "logits", "logitz") }),
        )
        assertEquals(
            "a graph gives no tensor 'present_key_0' but logits, prezent_key_0, prezent_value_0; export the model " +
                "again",
            refusal(changeDecoder = { rename(it, "present_", "prezent_") }),
        )
    }

    private fun said(what: String, shape: String) = "a graph's output $what, not float32 [$shape]; export the model again"

    @Test
    fun outputsOfAnotherShapeOrType() {
        val oneRow = FloatArray(Told.VOCABULARY)
        assertEquals(
            said("'cross_key_0' is float32 [1, 1500, 1]", "1, any, any, any"),
            refusal(changeEncoder = { it["cross_key_0"] = Session.tensor(FloatArray(1500), 1, 1500, 1) }),
        )
        assertEquals(
            said("'cross_key_0' is float32 [1, 1, 0, 1]", "1, any, any, any"),
            refusal(changeEncoder = { it["cross_key_0"] = Session.tensor(FloatArray(0), 1, 1, 0, 1) }),
        )
        assertEquals(
            said("'logits' is float32 [1, 1, ${Told.VOCABULARY}]", "1, 2, any"),
            refusal(changeDecoder = { it["logits"] = Session.tensor(oneRow, 1, 1, oneRow.size.toLong()) }),
        )
        assertEquals(
            said("'logits' is float32 [1, 2, 0]", "1, 2, any"),
            refusal(changeDecoder = { it["logits"] = Session.tensor(FloatArray(0), 1, 2, 0) }),
        )
        assertEquals(
            said("'logits' is int64 [1, 2, 2000]", "1, 2, any"),
            refusal(changeDecoder = { it["logits"] = Session.tensor(LongArray(4000), 1, 2, 2000) }),
        )
    }

    @Test
    fun cachesThatDoNotGrowByTheTokens() {
        assertEquals(
            said("'present_key_0' is float32 [1, 1, 5, 1]", "1, 1, 2, 1"),
            refusal(changeDecoder = { it["present_key_0"] = Session.tensor(FloatArray(5), 1, 1, 5, 1) }),
        )
    }

    @Test
    fun tokensThatNothingKnows() {
        assertEquals(
            "the model gives token 4, the vocabulary has 3; export the model again",
            refusal(vocabulary = listOf("a", "b", "c")),
        )
        val settings = Told.settings
        val of5000 = listOf(
            settings.copy(suppress = listOf(5000)),
            settings.copy(suppressAtBegin = listOf(5000)),
            settings.copy(noSpeech = 5000),
            settings.copy(languages = mapOf("en" to 3, "fr" to 5000), transcribe = 5),
            settings.copy(languages = mapOf("en" to 3), transcribe = 5000),
        )
        for (changed in of5000) {
            assertEquals(
                "model.json names the token 5000, the model gives logits of ${Told.VOCABULARY}; export the model again",
                refusal(settings = changed),
            )
        }
    }

    @Test
    fun logitsThatAreNoNumbers() {
        val nothing = FloatArray(2 * Told.VOCABULARY) { Float.NaN }
        assertEquals(
            "the model gives logits that are no numbers; export the model again",
            refusal(
                changeDecoder = { it["logits"] = Session.tensor(nothing, 1, 2, Told.VOCABULARY.toLong()) },
                options = DecodingOptions(temperature = listOf(0.7)),
            ),
        )
    }
}
