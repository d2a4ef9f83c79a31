package mqruntime

import ai.onnxruntime.OnnxTensor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File
import java.io.RandomAccessFile
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import java.nio.file.attribute.PosixFilePermissions
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/** What was checked is what runs, and a run ends. */
class VerifiedTest {
    @TempDir
    lateinit var place: File

    private val vectors = TestData.vectors

    private fun said(bundle: Bundle, runSeconds: Double? = null): String =
        Recognizer.openBundle(bundle, threads = 1, runSeconds = runSeconds).use { it.transcribe(vectors.pcm).text }

    @Test
    fun fileRenamedOverABundleWhileItIsCheckedDoesNotRun() {
        val app = vectors.named("nothing changed").write(place)
        val content = Bundle.open(app).bytes("model.onnx")
        var isSwapped = false
        val bundle = Bundle.open(app) { _, _ ->
            if (!isSwapped) {
                val other = File(place, "other").also { TestData.wrong("ctc-rank-2").copyTo(it) }
                Files.move(other.toPath(), app.toPath(), StandardCopyOption.ATOMIC_MOVE)
                isSwapped = true
            }
        }
        assertTrue(isSwapped)
        assertArrayEquals(content, bundle.bytes("model.onnx"))
        assertEquals(vectors.text, said(bundle))
    }

    @ParameterizedTest
    @ValueSource(strings = ["nothing changed", "nothing changed, coded"])
    fun bundleThatIsOverwrittenOrCutOffRunsAsItWasChecked(what: String) {
        val original = vectors.named(what)
        for (key in listOf(vectors.publicKey, null)) {
            val app = original.write(place)
            // Without a key a copy is made where others may write.
            val modes = PosixFilePermissions.fromString(if (key == null) "rw-rw-rw-" else "rw-r--r--")
            Files.setPosixFilePermissions(app.toPath(), modes)
            val bundle = Bundle.open(app, key)
            val content = bundle.bytes("model.onnx")
            RandomAccessFile(app, "rw").use {
                it.write(ByteArray(original.bundle.size))
                it.setLength(64)
            }
            assertArrayEquals(content, bundle.bytes("model.onnx"))
            assertEquals(vectors.text, said(bundle))
        }
    }

    @Test
    fun inflatedWeightsAreHashedWhereAKeyIsGiven() {
        val app = vectors.named("nothing changed, coded").write(place)
        val name = "model.onnx.data"
        assertEquals(null, Bundle.open(app).stream(name).sha256)
        val bundle = Bundle.open(app, vectors.publicKey)
        val listed = bundle.manifest.files.first { it.name == name }
        assertEquals(listed.sha256, bundle.stream(name).sha256)
        val parts = bundle.manifest.model.coded.getValue(name)
        val right = File(place, "right")
        bundle.stream(name).inflateTo(right, threads = 2)
        assertEquals(listed.length, right.length())
        val crc32 = java.util.zip.CRC32().apply { update(right.readBytes()) }.value
        val wrong = CodedStream(bundle.read(name), parts, crc32, "0".repeat(64))
        val graph = bundle.read("model.onnx")
        val error = assertThrows(ModelError::class.java) { Session(File(app, "model.onnx"), graph, wrong) }
        assertTrue("its SHA-256 is another" in error.message, error.message)
    }

    @Test
    @Timeout(120)
    fun runThatTakesTooLongIsStopped() {
        for (name in listOf("ctc-endless", "keywords-endless")) {
            val bundle = TestData.wrong(name)
            Recognizer.open(bundle, operators = null, runSeconds = 0.3).use {
                val error = assertThrows(ModelError::class.java) { it.transcribe(vectors.pcm) }
                assertEquals(
                    "$bundle/model.onnx: one run takes more than 0.3 s and was stopped; do not use the model, or " +
                        "allow more with runSeconds",
                    error.message,
                )
            }
        }
    }

    @Test
    @Timeout(120)
    fun cancellingEndsARun() {
        val loud = FloatArray(16000) { if (it % 2 == 0) 0.5f else -0.5f }
        val folder = TestData.unzip(Bundle.open(TestData.wrong("keywords-endless")), File(place, "model"))
        for (model in listOf(TestData.wrong("keywords-endless"), folder)) {
            Recognizer.open(model, operators = null).use { recognizer ->
                cancelled { cancel -> recognizer.transcribe(vectors.pcm, cancel = cancel) }
                cancelled { cancel -> recognizer.keywords(vectors.pcm, cancel = cancel) }
                cancelled { cancel ->
                    recognizer.stream(cancel = cancel, partialSeconds = 0.1).feed(loud)
                }
            }
        }
    }

    private fun cancelled(work: (AtomicBoolean) -> Unit) {
        val cancel = AtomicBoolean()
        val timer = Executors.newSingleThreadScheduledExecutor()
        try {
            timer.schedule({ cancel.set(true) }, 200, TimeUnit.MILLISECONDS)
            val error = assertThrows(CancelledError::class.java) { work(cancel) }
            assertEquals("recognition was cancelled", error.message)
        } finally {
            timer.shutdownNow()
        }
    }

    @Test
    fun cancellingEndsTheWorkBetweenRuns() {
        val cancel = AtomicBoolean()
        val decoder = Told.Decoder { _, tokens ->
            if (tokens.size == 3) cancel.set(true)
            Told.certain(4)
        }
        var runs = 0
        val told = Told.recognizer(decoder)
        val counted = object : Graph {
            override fun run(feeds: Map<String, OnnxTensor>) = decoder.run(feeds).also { runs += 1 }
        }
        val recognizer = Recognizer(told.manifest, told.graphs + ("decoder" to counted), told.vocabulary)
        assertThrows(CancelledError::class.java) { recognizer.transcribe(Told.burst, cancel = cancel) }
        assertEquals(3, runs)
        assertEquals(0, decoder.open)
    }

    @Test
    fun runsOfAVerifiedBundleHaveNoLimit() {
        val app = vectors.named("nothing changed").write(place)
        val bundle = Bundle.open(app, vectors.publicKey)
        assertTrue(bundle.isVerified)
        assertEquals(vectors.text, said(bundle, runSeconds = 1e-9))
    }
}
