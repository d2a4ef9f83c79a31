package mqruntime

/**
 * How to recognize: Whisper's decoding choices; the defaults decode short clips greedily, once.
 *
 * Names and default values of limits are those of Whisper's own `transcribe`.
 *
 * @property timestamps let the model say when things are said, and move on from there; null: in
 *     recordings longer than the model's window only.
 * @property beams hypotheses followed at temperature 0; 1 is greedy.
 * @property temperatures tried in turn until a text is neither too repetitive nor too unlikely; above
 *     0 tokens are drawn at random, always with the same seed. null: 0 alone without timestamps,
 *     [FALLBACK_TEMPERATURES] with them.
 * @property compressionRatioLimit text that zlib shrinks by more repeats itself.
 * @property logProbabilityLimit a lower mean log-probability of the tokens is too unlikely.
 * @property noSpeechLimit a window whose probability of no speech is higher, and whose text is too
 *     unlikely, holds none. Not used without timestamps.
 * @throws ModelError `beams` or `temperatures` are out of range.
 */
data class Options(
    val timestamps: Boolean? = null,
    val beams: Int = 1,
    val temperatures: List<Double>? = null,
    val compressionRatioLimit: Double = 2.4,
    val logProbabilityLimit: Double = -1.0,
    val noSpeechLimit: Double = 0.6,
) {
    init {
        if (beams !in 1..16) throw ModelError("beams is $beams; 1 to 16 are possible")
        if (temperatures != null && (temperatures.isEmpty() || temperatures.any { it !in 0.0..2.0 })) {
            throw ModelError("temperatures are $temperatures; give some from 0 to 2")
        }
    }

    companion object {
        val FALLBACK_TEMPERATURES = listOf(0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    }
}
