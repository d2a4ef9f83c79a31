package mqruntime

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin

class WavTest {
    @Test
    fun readsAndResamplesWhatPythonReads() {
        assertEquals(9, TestData.resampled.size)
        for (expected in TestData.resampled) {
            assertEquals(expected.rate, Wav.read(expected.clip).rate)
            // Sums in another order: a last bit of float32.
            assertArrayEquals(expected.samples, Wav.load(expected.clip), 2e-7f, expected.clip.name)
        }
    }

    @Test
    fun resamplingKeepsSines() {
        val source = FloatArray(48000) { sin(2 * PI * 1000 * it / 48000).toFloat() }
        val resampled = Wav.resample(source, 48000, 16000)
        assertEquals(16000, resampled.size)
        for (i in 1000 until 15000) assertTrue(abs(resampled[i] - sin(2 * PI * 1000 * i / 16000)) < 3.2e-5)
    }

    @Test
    fun whatIsWrittenIsRead(@TempDir folder: File) {
        val file = File(folder, "clip.wav")
        file.writeBytes(Wav.bytes(floatArrayOf(0f, 0.5f, -1f, 2f, -2f), 8000))
        val content = Wav.read(file)
        assertEquals(8000, content.rate)
        assertArrayEquals(floatArrayOf(0f, 0.5f, -1f, 32767 / 32768f, -1f), content.mono())
    }

    @Test
    fun brokenFilesAreRefusedInOneLine(@TempDir folder: File) {
        val good = Wav.bytes(FloatArray(100))
        val broken = mapOf<String, (ByteArray) -> ByteArray>(
            "is not a WAV file" to { "hello, I am text\n".toByteArray() },
            "is not a WAV file; convert" to { ByteArray(0) },
            "cut off, data chunk has 199 of 200" to { it.copyOf(it.size - 1) },
            "is cut off" to { it.copyOf(30) },
            "no format or no data" to { it.copyOf(12) },
            "no samples" to { it.copyOf(40) + ByteArray(4) },
            "format 6 with 16 bits" to { it.also { bytes -> bytes[20] = 6 } },
            "0 channels of 16 bits" to { it.also { bytes -> bytes[22] = 0 } },
            "make no sense" to { bytes -> bytes.also { for (i in 24..27) it[i] = -1 } },
        )
        for ((message, change) in broken) {
            val file = File(folder, "clip.wav")
            file.writeBytes(change(good.clone()))
            val error = assertThrows(AudioError::class.java) { Wav.read(file) }
            assertTrue(message in error.message, "$message: ${error.message}")
            assertTrue('\n' !in error.message)
        }
        val absent = assertThrows(AudioError::class.java) { Wav.read(File(folder, "absent.wav")) }
        assertTrue("absent.wav: cannot be read" in absent.message)
    }

    @Test
    fun streamedFileWithUnknownLengthIsRead() {
        for (unknown in listOf(0xFF.toByte(), 0)) {
            val bytes = Wav.bytes(FloatArray(100))
            for (i in (4..7) + (40..43)) bytes[i] = unknown
            assertEquals(100, Wav.parse(bytes, "clip.wav").mono().size)
        }
    }

    @Test
    fun whatFollowsTheDataIsNotRead() {
        val bytes = Wav.bytes(FloatArray(100)) + "LIST".toByteArray() + ByteArray(4) { -1 }
        assertEquals(100, Wav.parse(bytes, "clip.wav").mono().size)
    }

    @Test
    fun samplesOnTheScaleOfIntegersAreRefused() {
        val error = assertThrows(AudioError::class.java) { Wav.checkRange("clip", floatArrayOf(0f, -1000f)) }
        assertTrue("samples reach 1000.0, a recording stays within -1 to 1" in error.message)
    }

    @Test
    fun hoursAtOneSampleASecondAreRefused() {
        val bytes = Wav.bytes(FloatArray(9 * 3600), rate = 1)
        val error = assertThrows(AudioError::class.java) { Wav.parse(bytes, "clip.wav") }
        assertTrue("clip.wav: is over 28800 s long" in error.message)
    }
}
