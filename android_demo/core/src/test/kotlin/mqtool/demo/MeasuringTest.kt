package mqtool.demo

import mqruntime.Bundle
import mqruntime.CancelledError
import mqruntime.Recognizer
import mqruntime.Selftest
import mqruntime.TestData
import mqruntime.Wav
import mqruntime.parseJson
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean

class MeasuringTest {
    @Test
    fun medianIsTheMiddle() {
        assertEquals(2.0, Benchmark.median(listOf(3.0, 1.0, 2.0)))
        assertEquals(2.5, Benchmark.median(listOf(4.0, 1.0, 2.0, 3.0)))
    }

    @Test
    fun figuresAreOfTheRunsAndExportedAsJson() {
        val runs = ArrayList<Int>()
        val pcm = Wav.load(TestData.clip("toy.wav"))
        val figures = Benchmark.run(TestData.bundle("toy-ctc"), pcm, 1, 3, "a desk", onRun = runs::add)
        assertEquals(listOf(0, 1, 2, 3), runs.distinct())
        assertEquals(3, figures.latencyMs.size)
        assertTrue(figures.loadMs > 0 && figures.latencyMs.all { it > 0 })
        assertEquals(Benchmark.median(figures.latencyMs) / 1000 / (pcm.size / 16000.0), figures.rtf, 1e-9)
        assertTrue(figures.peakRssMb!! > 20)
        val json = parseJson(figures.toJson().toByteArray()) as Map<*, *>
        assertEquals("a desk", json["device"])
        assertEquals(1L, json["threads"])
        assertEquals(3L, json["runs"])
        for (name in listOf("load_ms", "rtf", "latency_ms", "peak_rss_mb", "bytes", "provider")) assertTrue(name in json, name)
    }

    @Test
    fun peakMemoryIsReadFromTheSystemOrNotKnown() {
        assertNull(Benchmark.peakRssMb(File("/proc/self/absent")))
    }

    @Test
    fun twoBundlesHearTheSameRecording() {
        val heard = Comparison.run(
            listOf(TestData.bundle("toy-ctc"), TestData.bundle("toy-keywords")), Wav.load(TestData.clip("toy.wav")),
        )
        assertEquals(listOf("hello phone", "loud"), heard.map { it.text })
        assertTrue(heard.all { it.seconds > 0 && it.bytes > 0 })
    }

    @Test
    fun workThatIsCancelledEnds() {
        val cancel = AtomicBoolean(true)
        val file = TestData.bundle("toy-keywords")
        val loud = FloatArray(16000) { if (it % 2 == 0) 0.9f else -0.9f }
        assertThrows(CancelledError::class.java) { Benchmark.run(file, loud, 1, 3, "a desk", cancel) }
        assertThrows(CancelledError::class.java) { Comparison.run(listOf(file), loud, cancel) }
        val bundle = Bundle.open(file)
        Recognizer.openBundle(bundle).use { recognizer ->
            assertThrows(CancelledError::class.java) { KeywordSpotter(recognizer, cancel = cancel).feed(loud) }
            assertThrows(CancelledError::class.java) { Selftest.run(bundle, recognizer, cancel).toList() }
            assertThrows(CancelledError::class.java) { recognizer.keywords(loud, cancel = cancel) }
        }
    }

    @Test
    fun wordIsReportedOnceForAsLongAsItLasts() {
        Recognizer.open(TestData.bundle("toy-keywords")).use { recognizer ->
            val spotter = KeywordSpotter(recognizer, threshold = 0.5, ignored = setOf("quiet"))
            val loud = FloatArray(16000) { if (it % 2 == 0) 0.9f else -0.9f }
            val silence = FloatArray(32000)
            val heard = (0 until 3).flatMap { spotter.feed(silence) + spotter.feed(loud) + spotter.feed(loud) }
            assertEquals(listOf("loud", "loud", "loud"), heard.map { it.text })
            assertTrue(heard.all { it.score!! >= 0.5 })
        }
    }
}
