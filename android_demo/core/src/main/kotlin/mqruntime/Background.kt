package mqruntime

import kotlin.math.max
import kotlin.math.min

/**
 * Whether anything in a recording stands out from its background.
 *
 * Levels are the power of frames of 20 ms. What lasts three frames at ten times the background's power,
 * which nine tenths of all frames exceed, and at -80 dB of full scale, stands out: any speech, but also
 * music. Steady noise or hum of any loudness, clicks and silence do not.
 */
internal object Background {
    private const val FRAME_SECONDS = 0.02
    private const val ABOVE = 10.0
    private const val LEAST_POWER = 1e-8

    fun standsOut(pcm: FloatArray, rate: Int): Boolean {
        val length = Math.rint(rate * FRAME_SECONDS).toInt()
        val power = DoubleArray(pcm.size / length) { frame ->
            var sum = 0.0
            for (i in frame * length until (frame + 1) * length) sum += pcm[i].toDouble() * pcm[i]
            sum / length
        }
        if (power.size < 3) return false
        val lasting = (0 until power.size - 2).maxOf { min(min(power[it], power[it + 1]), power[it + 2]) }
        val background = power.sorted()[power.size / 10]
        return lasting > max(ABOVE * background, LEAST_POWER)
    }
}
