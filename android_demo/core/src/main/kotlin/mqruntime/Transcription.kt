package mqruntime

import kotlin.math.min

/**
 * A recording's way through a Whisper model, window by window, once.
 *
 * Without timestamps, windows are cut without regard to words. With them, the model's own timestamps
 * say where the next window should start, as in Whisper's own `transcribe` (Radford et al. 2022,
 * section 3.8), with its fallback to higher temperatures. Where nobody speaks there is no text: by its
 * rule, with and without timestamps, and where nothing stands out from the background and the model half
 * doubts that there is speech. Windows are independent of each other but for what [PreviousText] says.
 * Only one window is in work at a time.
 *
 * @param graphs `encoder` and `decoder`.
 * @param rate samples a second.
 * @param language ISO code; null to detect it in the first window.
 * @param previous text before the recording; what is said is added to it.
 * @param onText called with the text so far before every step; may throw to end the work.
 */
class Transcription(
    graphs: Map<String, Graph>,
    private val settings: WhisperSettings,
    private val vocabulary: Vocabulary,
    private val rate: Int,
    language: String?,
    private val options: DecodingOptions,
    private val previous: PreviousText,
    private val onText: (String) -> Unit,
) {
    private val encoder = graphs.getValue("encoder")
    private val decoder = graphs.getValue("decoder")
    private var said = "" // in the segments so far

    /** Given or detected. */
    var language = language
        private set

    /** Seconds of work so far, `encoder` and `decoder`. */
    val timings = linkedMapOf("encoder" to 0.0, "decoder" to 0.0)

    /** Segments of PCM, with or without timestamps as the options say. */
    fun segments(pcm: FloatArray): Sequence<Segment> {
        val timed = options.timestamps ?: (pcm.size > settings.window)
        return if (timed) timed(pcm) else plain(pcm)
    }

    /** One segment a window. */
    private fun plain(pcm: FloatArray): Sequence<Segment> = sequence {
        var at = 0
        for (window in Whisper.windows(settings, pcm)) {
            val start = at
            at += window.size
            val decoded = decode(window, timed = false) ?: continue
            previous.add(decoded.tokens, decoded.temperature)
            yield(segment(start.toDouble() / rate, at.toDouble() / rate, decoded.tokens, decoded))
        }
    }

    /** One segment a phrase. */
    private fun timed(pcm: FloatArray): Sequence<Segment> = sequence {
        val step = Math.rint(rate * Timestamps.SECONDS).toInt()
        val recorded = pcm.size.toDouble() / rate
        var at = 0 // in timestamp steps
        while (at == 0 || (at + SHORTEST) * step < pcm.size) {
            val window = pcm.copyOfRange(at * step, min(at * step + settings.window, pcm.size))
            val length = (window.size + step - 1) / step
            val decoded = decode(window, timed = true)
            if (decoded == null) {
                at += length
                continue
            }
            val (found, after) = Timestamps.phrases(settings, decoded.tokens, length)
            previous.add(found.flatMap { Timestamps.timedTokens(settings, it) }, decoded.temperature)
            for (phrase in found) {
                if (phrase.tokens.isNotEmpty()) {
                    val end = min(phrase.end, length)
                    val start = min((at + min(phrase.start, end)) * Timestamps.SECONDS, recorded)
                    val endSeconds = min((at + end) * Timestamps.SECONDS, recorded)
                    yield(segment(start, endSeconds, phrase.tokens, decoded))
                }
            }
            at += if (after > 0) after else length
        }
    }

    private fun segment(start: Double, end: Double, tokens: List<Int>, decoded: Decoded): Segment {
        val text = text(tokens).trim()
        said = joined(said, text)
        return Segment(milliseconds(start), milliseconds(end), text, tokens, decoded.logProbability)
    }

    private fun text(tokens: List<Int>): String = vocabulary.bpeText(tokens.filter(settings::isText))

    /** The text of a window; null where nobody speaks. */
    private fun decode(pcm: FloatArray, timed: Boolean): Decoded? {
        onText(said)
        val start = System.nanoTime()
        return Whisper.encode(encoder, settings, pcm).use { cross ->
            val encoded = System.nanoTime()
            timings["encoder"] = timings.getValue("encoder") + (encoded - start) / 1e9
            if (isNoise(pcm, cross)) return null
            val spoken = language ?: Whisper.spokenLanguage(decoder, settings, cross)
            language = spoken
            val prompt = Whisper.promptTokens(settings, spoken, timed, previous.tokens)
            val context = DecodingContext.ofWindow(decoder, settings, cross, prompt, timed) {
                onText(joined(said, text(it).trim()))
            }
            val temperatures = options.temperature
                ?: if (timed) DecodingOptions.FALLBACK_TEMPERATURES else listOf(0.0)
            val decoded = Search.search(context, options, temperatures, ::text)
            timings["decoder"] = timings.getValue("decoder") + (System.nanoTime() - encoded) / 1e9
            decoded.takeUnless { Search.isSilence(it, options) }
        }
    }

    /** Whether two witnesses doubt that there is speech: loudness, and the model by half. */
    private fun isNoise(pcm: FloatArray, cross: Outputs): Boolean =
        !Background.standsOut(pcm, rate) && Whisper.noSpeech(decoder, settings, cross) > options.noSpeechThreshold / 2

    companion object {
        private const val SHORTEST = 5 // timestamp steps at the end that are too few to hear a word in

        private fun joined(before: String, text: String) =
            listOf(before, text).filter(String::isNotEmpty).joinToString(" ")
    }
}
