package mqtool.demo

import mqruntime.AudioError
import mqruntime.Wav
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.zip.ZipInputStream

class CalibrationClipsTest {
    @TempDir
    lateinit var folder: File
    private fun tone(seconds: Double) = FloatArray((seconds * 16000).toInt()) { if (it % 2 == 0) 0.25f else -0.25f }

    @Test
    fun clipsAreExportedAsTheyWereRecorded() {
        val clips = CalibrationClips(folder)
        clips.add(tone(1.0))
        clips.add(tone(2.0))
        assertEquals(listOf(1.0, 2.0), clips.list().map(clips::seconds))
        val zip = ByteArrayOutputStream()
        clips.export(zip)
        ZipInputStream(zip.toByteArray().inputStream()).use { opened ->
            for ((name, seconds) in listOf("01.wav" to 1.0, "02.wav" to 2.0)) {
                assertEquals(name, opened.nextEntry.name)
                assertArrayEquals(tone(seconds), Wav.parse(opened.readBytes(), name).mono())
            }
            assertEquals(null, opened.nextEntry)
        }
        val again = ByteArrayOutputStream()
        clips.export(again)
        assertArrayEquals(zip.toByteArray(), again.toByteArray())
    }

    @Test
    fun thirtyTwoClipsFitAndRemovedNumbersAreUsedAgain() {
        val clips = CalibrationClips(folder)
        repeat(CalibrationClips.MOST) { clips.add(tone(0.5)) }
        val error = assertThrows(AudioError::class.java) { clips.add(tone(1.0)) }
        assertEquals("there are 32 clips already; remove one first", error.message)
        clips.remove(File(folder, "07.wav"))
        assertEquals("07.wav", clips.add(tone(1.0)).name)
    }

    @Test
    fun uselessClipsAreRefused() {
        val clips = CalibrationClips(folder)
        assertTrue("0.1 s long" in assertThrows(AudioError::class.java) { clips.add(tone(0.1)) }.message)
        assertTrue("61.0 s long" in assertThrows(AudioError::class.java) { clips.add(tone(61.0)) }.message)
        assertTrue("silent" in assertThrows(AudioError::class.java) { clips.add(FloatArray(16000)) }.message)
        assertEquals(emptyList<File>(), clips.list())
    }
}
