package mqruntime

import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min

/**
 * When speech begins and ends.
 *
 * @property aboveBackgroundDb how much louder than the background speech is.
 * @property quietestDb nothing quieter is speech, relative to full scale.
 * @property beginSeconds so much speech within 0.2 seconds begins an utterance.
 * @property endSeconds so much silence in a row ends it.
 * @property beforeSeconds sound kept from before the beginning.
 * @property longestSeconds a longer utterance is cut at its quietest frame in the last third.
 */
data class VadSettings(
    val aboveBackgroundDb: Double = 10.0,
    val quietestDb: Double = -55.0,
    val beginSeconds: Double = 0.06,
    val endSeconds: Double = 0.6,
    val beforeSeconds: Double = 0.3,
    val longestSeconds: Double = 28.0,
)

/** A stretch that may hold speech; `start` in samples from the beginning of the stream. */
class Utterance(val start: Long, val pcm: FloatArray)

/**
 * Cuts a stream into utterances: where somebody speaks, told from loudness alone.
 *
 * A frame counts as speech when it is clearly louder than the background, whose level follows the
 * quietest frames. This knows nothing about voices: steady noise is learned, but music and barking
 * dogs are taken for speech.
 */
class EnergyVad(private val rate: Int, private val settings: VadSettings = VadSettings()) {
    private class Frame(val level: Double, val pcm: FloatArray)

    private val frameSize = Math.rint(rate * FRAME_SECONDS).toInt()
    private val frames = ArrayDeque<Frame>()
    private var rest = FloatArray(0)
    private var background: Double? = null
    private val loud = ArrayDeque<Boolean>() // the last frames, of BEGIN_WITHIN seconds
    private var quiet = 0 // frames in a row
    private var at = 0L // samples given out or dropped before the first of `frames`

    /** Whether an utterance has begun and not ended. */
    var speaking = false
        private set

    /** Take PCM in; give out utterances that have ended. */
    fun feed(chunk: FloatArray): List<Utterance> {
        val pcm = rest + chunk
        val whole = pcm.size / frameSize * frameSize
        rest = pcm.copyOfRange(whole, pcm.size)
        return (0 until whole step frameSize).mapNotNull { take(pcm.copyOfRange(it, it + frameSize)) }
    }

    /** The utterance that has begun and not ended, so far. */
    fun current(): Utterance? = if (speaking) Utterance(at, joined(frames.map(Frame::pcm))) else null

    /** End the stream; give out what was being said. */
    fun finish(): List<Utterance> {
        val ended = if (speaking) listOf(Utterance(at, joined(frames.map(Frame::pcm) + listOf(rest)))) else emptyList()
        speaking = false
        frames.clear()
        rest = FloatArray(0)
        return ended
    }

    private fun take(pcm: FloatArray): Utterance? {
        val level = levelDb(pcm)
        val isLoud = isSpeech(level)
        frames.addLast(Frame(level, pcm))
        loud.addLast(isLoud)
        if (loud.size > count(BEGIN_WITHIN)) loud.removeFirst()
        quiet = if (isLoud) 0 else quiet + 1
        if (!speaking) {
            if (loud.count { it } >= count(settings.beginSeconds)) speaking = true
            while (!speaking && frames.size > count(settings.beforeSeconds)) at += frames.removeFirst().pcm.size
        } else if (quiet >= count(settings.endSeconds)) {
            speaking = false
            return cut(frames.size)
        } else if (frames.size >= count(settings.longestSeconds)) {
            return cut(quietest())
        }
        return null
    }

    private fun isSpeech(level: Double): Boolean {
        // Down at once; up by 3 dB a second, so that words do not become the background.
        val before = background ?: min(level, LOUDEST_BACKGROUND_DB)
        val learned = min(level, before + 3.0 * FRAME_SECONDS)
        background = learned
        return level > max(learned + settings.aboveBackgroundDb, settings.quietestDb)
    }

    /** Frames up to the quietest one in the last third. */
    private fun quietest(): Int {
        val first = frames.size * 2 / 3
        return (first until frames.size).minBy { frames[it].level } + 1
    }

    private fun cut(count: Int): Utterance {
        val utterance = Utterance(at, joined(List(count) { frames.removeFirst().pcm }))
        at += utterance.pcm.size
        return utterance
    }

    private fun count(seconds: Double) = max(1, Math.rint(seconds / FRAME_SECONDS).toInt())

    companion object {
        const val FRAME_SECONDS = 0.02
        private const val SILENCE_DB = -120.0
        private const val BEGIN_WITHIN = 0.2
        private const val LOUDEST_BACKGROUND_DB = -40.0 // at the beginning, when nothing is known: it may be a voice

        /** Level of PCM relative to full scale; -120 for silence. */
        fun levelDb(pcm: FloatArray): Double {
            if (pcm.isEmpty()) return SILENCE_DB
            val power = pcm.sumOf { it.toDouble() * it } / pcm.size
            return if (power > 0) max(10 * log10(power), SILENCE_DB) else SILENCE_DB
        }

        private fun joined(parts: List<FloatArray>): FloatArray {
            val whole = FloatArray(parts.sumOf { it.size })
            var at = 0
            for (part in parts) {
                part.copyInto(whole, at)
                at += part.size
            }
            return whole
        }
    }
}
