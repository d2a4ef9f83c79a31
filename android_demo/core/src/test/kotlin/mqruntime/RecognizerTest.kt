package mqruntime

import ai.onnxruntime.OnnxTensor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File

/** Real bundles in the real onnxruntime: what Python hears is what the phone hears. */
class RecognizerTest {
    @ParameterizedTest
    @ValueSource(
        strings = [
            "whisper-tiny.en", "whisper-tiny.en-float", "random-whisper", "commands-keywords", "commands-ctc",
            "toy-whisper", "toy-ctc", "toy-keywords", "random-moonshine", "random-parakeet", "random-tdt", "random-rnnt",
        ],
    )
    fun hearsWhatPythonHears(name: String) {
        // Kernels of another version of onnxruntime round differently; the toys' sums are exact.
        val (ofWhole, ofSegments) = if (name.startsWith("toy")) 1e-6 to 1e-6 else 0.01 to 0.05
        Recognizer.open(TestData.bundle(name), threads = 1).use { recognizer ->
            for (heard in TestData.heard(name)) {
                val what = "${heard.clip.name}, ${heard.options}"
                val pcm = Wav.load(heard.clip, recognizer.manifest.sampleRate)
                val result = recognizer.transcribe(pcm, options = heard.options)
                assertEquals(withoutScores(heard.result), withoutScores(result), what)
                assertScores(listOf(heard.result.score), listOf(result.score), ofWhole, what)
                assertScores(
                    heard.result.segments.map { it.score }, result.segments.map { it.score }, ofSegments, what,
                )
                assertEquals(pcm.size / 16000.0, result.seconds)
                assertTrue(result.timings.values.all { it > 0 })
            }
        }
    }

    private fun withoutScores(result: Result) = result.copy(
        seconds = 0.0, timings = emptyMap(), score = null, segments = result.segments.map { it.copy(score = null) },
    )

    private fun assertScores(expected: List<Double?>, found: List<Double?>, tolerance: Double, what: String) {
        for ((one, other) in expected.zip(found)) {
            if (one == null) assertNull(other, what) else assertEquals(one, other!!, tolerance, what)
        }
    }

    @ParameterizedTest
    @ValueSource(
        strings = [
            "whisper-tiny.en", "random-whisper", "random-moonshine", "commands-keywords", "commands-ctc", "toy-whisper",
            "toy-ctc", "random-parakeet", "random-tdt", "random-rnnt",
        ],
    )
    fun passesItsSelftest(name: String) {
        val bundle = Bundle.open(TestData.bundle(name))
        Recognizer.openBundle(bundle, threads = 1).use { recognizer ->
            val checked = Selftest.run(bundle, recognizer).toList()
            assertEquals(2, checked.size)
            for (clip in checked) assertTrue(clip.passed, "${clip.expected.pcm}: ${clip.heard}, worst ${clip.worst}")
        }
    }

    @Test
    fun unzippedBundleIsAModelFolder(@TempDir place: File) {
        val folder = TestData.unzip(Bundle.open(TestData.bundle("toy-ctc")), File(place, "model"))
        Recognizer.open(folder, optimize = false).use {
            assertEquals("hello phone", it.transcribe(Wav.load(TestData.clip("toy.wav"))).text)
        }
    }

    @Test
    fun textGrowsAndStopsWhenAsked() {
        Recognizer.open(TestData.bundle("random-whisper"), threads = 1).use { recognizer ->
            val clip = TestData.heard("random-whisper").first()
            val pcm = Wav.load(clip.clip)
            val texts = ArrayList<String>()
            recognizer.transcribe(pcm, onText = texts::add)
            assertTrue(texts.size > clip.result.tokens.size)
            assertTrue(texts.zipWithNext().all { (shorter, longer) -> longer.length >= shorter.length })
            assertEquals(clip.result.text, texts.last())
            val error = assertThrows(InterruptedException::class.java) {
                recognizer.transcribe(pcm) { throw InterruptedException("stop") }
            }
            assertEquals("stop", error.message)
            assertEquals(clip.result.text, recognizer.transcribe(pcm).text)
        }
    }

    @Test
    fun longRecordingsAreCutIntoWindows() {
        Recognizer.open(TestData.bundle("random-whisper"), threads = 1).use { recognizer ->
            val window = recognizer.manifest.whisper!!.window
            val once = FloatArray(window) { kotlin.math.sin(it * 0.05f) * 0.5f }
            val single = recognizer.transcribe(once)
            val double = recognizer.transcribe(once + once, options = DecodingOptions(timestamps = false))
            assertEquals(single.tokens + single.tokens, double.tokens)
            assertEquals("${single.text} ${single.text}", double.text)
        }
    }

    @Test
    fun refusesWhatItCannotHear() {
        Recognizer.open(TestData.bundle("random-whisper")).use { recognizer ->
            val empty = assertThrows(AudioError::class.java) { recognizer.transcribe(FloatArray(0)) }
            assertTrue("no samples" in empty.message)
            val broken = assertThrows(AudioError::class.java) { recognizer.transcribe(floatArrayOf(0f, Float.NaN)) }
            assertTrue("NaN" in broken.message)
            val unknown = assertThrows(ModelError::class.java) { recognizer.transcribe(FloatArray(100), "xx") }
            assertEquals("language 'xx' is not one of the model's: en fr", unknown.message)
        }
        Recognizer.open(TestData.bundle("toy-ctc")).use { recognizer ->
            for (task in listOf("transcribe", "translate")) {
                val refused = assertThrows(ModelError::class.java) {
                    recognizer.transcribe(FloatArray(320), options = DecodingOptions(task = task))
                }
                assertTrue("task '$task': a ctc model knows no tasks; leave it out" in refused.message)
            }
        }
    }

    @Test
    fun shortClipsAreFilledUp() {
        Recognizer.open(TestData.bundle("toy-ctc")).use { assertEquals("", it.transcribe(FloatArray(1)).text) }
    }

    @Test
    fun closedRecognizerSaysSo() {
        val recognizer = Recognizer.open(TestData.bundle("toy-ctc"))
        recognizer.close()
        val error = assertThrows(ModelError::class.java) { recognizer.transcribe(FloatArray(320)) }
        assertTrue("is closed; open it again" in error.message)
    }

    @Test
    fun modelIsNotReadIntoTheJavaHeap() {
        val file = TestData.bundle("whisper-tiny.en")
        val before = usedHeap()
        Recognizer.open(file, threads = 1).use { recognizer ->
            val grown = usedHeap() - before
            assertTrue(file.length() > 20_000_000, "${file.length()}")
            // The vocabulary is on the heap: 52,000 strings.
            assertTrue(grown < 8_000_000, "$grown bytes of heap for a bundle of ${file.length()}")
            assertFalse(recognizer.vocabulary!!.tokens.isEmpty())
        }
    }

    @Test
    fun zeroLengthCacheIsAllowed() {
        val cross = mapOf<String, OnnxTensor>("cross_key_0" to Session.tensor(FloatArray(24), 1, 2, 3, 4))
        Whisper.emptyCache(cross).use {
            assertArrayEquals(longArrayOf(1, 2, 0, 4), it.tensors.getValue("past_key_0").info.shape)
        }
    }

    @Test
    fun runtimeHoldsNoTelemetry() {
        assertTrue(Session.version.startsWith("1.27.") || Session.version.startsWith("1.28."), Session.version)
    }

    private fun usedHeap(): Long {
        repeat(3) {
            System.gc()
            Thread.sleep(20)
        }
        return Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() }
    }
}
