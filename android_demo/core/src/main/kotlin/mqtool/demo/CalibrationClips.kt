package mqtool.demo

import mqruntime.AudioError
import mqruntime.Wav
import java.io.File
import java.io.OutputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/**
 * One person's recordings for `mqtool plan --calib clips.zip`. They leave the phone only in the zip
 * that the user saves.
 *
 * @param folder app-private; holds 01.wav, 02.wav, ...: 16-bit mono, 16 kHz.
 */
class CalibrationClips(private val folder: File) {
    init {
        folder.mkdirs()
        folder.listFiles()?.filter { it.name.endsWith(PARTIAL) }?.forEach(File::delete)
    }

    /** The clips, oldest first. */
    fun list(): List<File> = folder.listFiles()?.filter { NAME.matches(it.name) }?.sortedBy { it.name }.orEmpty()

    /** Length of a clip in seconds, from its size. */
    fun seconds(clip: File): Double = (clip.length() - WAV_HEADER).coerceAtLeast(0) / (2.0 * RATE)

    /**
     * Keep a recording.
     *
     * @param pcm at 16 kHz.
     * @throws AudioError it is shorter than half a second, longer than a minute, silent, or the 33rd.
     */
    fun add(pcm: FloatArray): File {
        val clips = list()
        if (clips.size >= MOST) throw AudioError("there are $MOST clips already; remove one first")
        val seconds = pcm.size.toDouble() / RATE
        if (seconds !in SHORTEST..LONGEST) {
            throw AudioError("the clip is %.1f s long; say something of %.1f to %.0f s".format(seconds, SHORTEST, LONGEST))
        }
        if (pcm.all { it == 0f }) throw AudioError("the clip is silent; is the microphone switched off?")
        val number = (1..MOST).first { n -> clips.none { it.name == name(n) } }
        val clip = File(folder, name(number))
        val partial = File(folder, name(number) + PARTIAL)
        partial.writeBytes(Wav.bytes(pcm, RATE))
        partial.renameTo(clip)
        return clip
    }

    /** Remove a clip. */
    fun remove(clip: File) {
        if (clip.parentFile == folder) clip.delete()
    }

    /** Write all clips as a zip file, and close it. */
    fun export(target: OutputStream) {
        ZipOutputStream(target).use { zip ->
            for (clip in list()) {
                zip.putNextEntry(ZipEntry(clip.name).apply { time = EPOCH })
                clip.inputStream().use { it.copyTo(zip) }
                zip.closeEntry()
            }
        }
    }

    companion object {
        const val MOST = 32
        const val RATE = 16000
        const val SHORTEST = 0.5
        const val LONGEST = 60.0
        private const val WAV_HEADER = 44L
        private const val PARTIAL = ".partial"
        private const val EPOCH = 315_532_800_000L // 1980, the earliest a zip can say: no word of when
        private val NAME = Regex("[0-9]{2}\\.wav")

        private fun name(number: Int) = "%02d.wav".format(number)
    }
}
