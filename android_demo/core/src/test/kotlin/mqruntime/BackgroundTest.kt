package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.util.Random
import kotlin.math.PI
import kotlin.math.sin

/** Where nobody speaks there is no text: as tests/runtime/test_nobody_speaks.py. */
class BackgroundTest {
    private val random = Random(0)

    private fun noise(loudness: Double) = FloatArray(6 * Told.RATE) { (loudness * random.nextGaussian()).toFloat() }

    private fun hum(frequency: Int) = FloatArray(6 * Told.RATE) { (0.1 * sin(2 * PI * frequency * it / Told.RATE)).toFloat() }

    private val nobody = mapOf(
        "silence" to FloatArray(6 * Told.RATE),
        "quiet noise" to noise(1e-5),
        "loud noise" to noise(0.02),
        "hum" to hum(50),
        "hum of 60 Hz" to hum(60),
        "clicks" to FloatArray(6 * Told.RATE) { if (it % (Told.RATE / 4) == 0) 0.5f else 0f },
        "a moment" to noise(0.1).copyOf(Told.RATE / 25),
    )

    @Test
    fun nothingStandsOut() {
        for ((name, pcm) in nobody) assertFalse(Background.standsOut(pcm, Told.RATE), name)
    }

    @Test
    fun aTenthOfASecondStandsOut() {
        val pcm = noise(1e-5)
        for (i in 0 until 1600) pcm[40_000 + i] += 0.003f * sin(2 * PI * 300 * i / Told.RATE).toFloat()
        assertTrue(Background.standsOut(pcm, Told.RATE))
    }

    @Test
    fun aRealModelWritesNothing() {
        Recognizer.open(TestData.bundle("whisper-tiny.en")).use { recognizer ->
            for ((name, pcm) in nobody) {
                val result = recognizer.transcribe(pcm)
                assertEquals("" to emptyList<Segment>(), result.text to result.segments, name)
            }
        }
    }
}
