package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource
import java.io.File

/** What a graph may hold: operators that mqtool writes, and data in its own file. */
class OperatorsTest {
    @TempDir
    lateinit var place: File

    private fun forms(bundle: File): List<File> =
        listOf(bundle, TestData.unzip(Bundle.open(bundle), File(place, bundle.nameWithoutExtension)))

    @ParameterizedTest
    @CsvSource("Round,Round", "If,If", "ownAbs,own::Abs", "endless,Identity", "a-sequence,SequenceConstruct")
    fun foreignOperatorsAreRefused(name: String, operator: String) {
        for (model in forms(TestData.wrong("ctc-$name"))) {
            val error = assertThrows(ModelError::class.java) { Recognizer.open(model) }
            val said = "has the operator '$operator', which mqtool never writes; if you trust the model, allow any " +
                "operator (operators = null)"
            assertTrue(error.message.endsWith(said), error.message)
            assertFalse(operator in OPERATORS)
        }
    }

    @Test
    fun theyRunWhereTheyAreAskedFor() {
        val pcm = Wav.load(TestData.clip("toy.wav"))
        for (model in forms(TestData.wrong("ctc-ownAbs"))) {
            for (allowed in listOf(null, OPERATORS + "own::Abs")) {
                Recognizer.open(model, operators = allowed).use { assertEquals("hello phone", it.transcribe(pcm).text) }
            }
        }
    }

    @Test
    fun foreignOperatorsInABranchAreFound() {
        for (model in forms(TestData.wrong("ctc-If"))) {
            val error = assertThrows(ModelError::class.java) { Recognizer.open(model, operators = OPERATORS + "If") }
            assertTrue("has the operator 'Round'" in error.message, error.message)
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["a graph cut off", "a graph that is none"])
    fun whatIsNoGraphIsRefusedBeforeItIsOpened(what: String) {
        for (model in forms(TestData.vectors.named(what).write(place))) {
            for (operators in listOf(OPERATORS, null)) {
                val error = assertThrows(ModelError::class.java) { Recognizer.open(model, operators = operators) }
                assertTrue(REFUSED.containsMatchIn(error.message), error.message)
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["../outside", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
    fun graphsHaveNoDataElsewhere(location: String) {
        File(place, "outside").writeBytes(ByteArray(4096))
        for (model in forms(TestData.vectors.named("a graph with data in '$location'").write(place))) {
            val error = assertThrows(ModelError::class.java) { Recognizer.open(model) }
            assertTrue("has data in '$location', which is not its own file" in error.message, error.message)
        }
    }

    @Test
    fun graphsOfFoldersMayHaveDataOfTheirOwn() {
        val bundle = Bundle.open(TestData.vectors.named("a graph with data in 'model.onnx.data'").write(place))
        val folder = TestData.unzip(bundle, File(place, "model"))
        File(folder, "model.onnx.data").writeBytes(ByteArray(4))
        Recognizer.open(folder).use { assertEquals(TestData.vectors.text, it.transcribe(TestData.vectors.pcm).text) }
    }

    @Test
    fun everyPlaceThatATensorNamesCounts() {
        // A message that is there twice is one to onnxruntime.
        val external = message(13, message(1, "location".toByteArray()) + message(2, "a".toByteArray()))
        val other = message(13, message(1, "location".toByteArray()) + message(2, "b\nc".toByteArray()))
        val tensors = message(5, external + byteArrayOf((14 shl 3).toByte(), 1)) + message(5, other)
        val graph = message(7, message(1, message(4, "Constant".toByteArray()) + message(5, tensors)))
        val found = OnnxFile.contents(java.nio.ByteBuffer.wrap(graph))
        assertEquals(setOf("a", "b\nc"), found.files)
        assertEquals(setOf("Constant"), found.operators)
        val file = File(place, "model.onnx").also { it.writeBytes(graph) }
        val error = assertThrows(ModelError::class.java) { Session(file) }
        assertEquals("$file: has data in 'a', which is not its own file; do not use it", error.message)
    }

    private fun message(field: Int, content: ByteArray) =
        byteArrayOf((field shl 3 or 2).toByte(), content.size.toByte()) + content

    companion object {
        private val REFUSED = Regex("is not an ONNX graph \\(.+\\); pack again$")
    }
}
