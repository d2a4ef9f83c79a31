package mqruntime

import ai.onnxruntime.OnnxTensor

/** Settings that name tokens, of which the model has to give logits. */
interface NamesTokens {
    val highestToken: Int
}

/**
 * Running Whisper's two graphs; [Search] decides what to run.
 *
 * The encoder graph turns PCM into the cross-attention keys and values of every decoder layer; the
 * decoder graph takes tokens and the keys and values of earlier tokens (see `mqruntime/bundle/manifest.py`
 * and Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section
 * 2.3).
 */
object Whisper {
    private const val SAMPLES_PER_FRAME = 320 // one encoder position: a hop of 160 samples, then a stride of 2

    /**
     * Tokens that come before the text.
     *
     * English-only models: startOfTranscript, noTimestamps. Multilingual ones: startOfTranscript,
     * language, the model's task, noTimestamps. With timestamps the last is left out. What came
     * earlier is before all of these.
     *
     * @param language ISO code; ignored by English-only models ([Recognizer] checks it before).
     * @param timestamps whether the text is to have them.
     * @param previous from [PreviousText].
     * @throws ModelError a multilingual model does not know `language`.
     */
    fun promptTokens(
        settings: WhisperSettings,
        language: String?,
        timestamps: Boolean = false,
        previous: List<Int> = emptyList(),
    ): List<Int> {
        val end = if (timestamps) emptyList() else listOf(settings.noTimestamps)
        if (settings.languages.isEmpty()) return previous + settings.startOfTranscript + end
        val token = settings.languages[language]
        if (token == null || settings.transcribe == null) {
            val known = settings.languages.keys.sorted().joinToString(" ")
            throw ModelError("language '$language' is not one of the model's: $known")
        }
        val task = if (settings.task == "translate") settings.translate!! else settings.transcribe
        return previous + listOf(settings.startOfTranscript, token, task) + end
    }

    /** The least context, in samples, that holds so many samples (see [encode]). */
    fun paddedLength(samples: Int): Int = (samples + SAMPLES_PER_FRAME - 1) / SAMPLES_PER_FRAME * SAMPLES_PER_FRAME

    /** Cut PCM into pieces the encoder can see at once; at least one, maybe empty. */
    fun windows(settings: WhisperSettings, pcm: FloatArray): List<FloatArray> =
        (0 until maxOf(pcm.size, 1) step settings.window).map {
            pcm.copyOfRange(it, minOf(pcm.size, it + settings.window))
        }

    /**
     * Cross-attention keys and values of one window.
     *
     * @param pcm at most `settings.window` samples; padded with zeros up to the context.
     * @param context samples the encoder sees, a multiple of 320; null for the whole window, which
     *     is what the model was trained on.
     * @return `cross_key_{i}` and `cross_value_{i}`, float32 [1, heads, frames, headSize], for the
     *     caller to close.
     * @throws ModelError it gives something else, or failed.
     */
    fun encode(encoder: Graph, settings: WhisperSettings, pcm: FloatArray, context: Int? = null): Outputs {
        val samples = context ?: settings.window
        require(samples % SAMPLES_PER_FRAME == 0 && pcm.size <= samples && samples <= settings.window) {
            "context $samples for ${pcm.size} samples, window ${settings.window}"
        }
        return checkedCross(
            Session.tensor(pcm.copyOf(samples), 1, samples.toLong()).use { encoder.run(mapOf("pcm" to it)) },
        )
    }

    /** What an encoder made of one recording, `cross_key_{i}` and `cross_value_{i}`, or ModelError. */
    internal fun checkedCross(outputs: Outputs): Outputs =
        closingIfRefused(outputs) {
            val names = outputs.keys.filter { it.startsWith("cross_") }.ifEmpty { listOf("cross_key_0") }
            for (name in names) checkedOutput(outputs, name, 1, null, null, null)
            outputs
        }

    private inline fun <T> closingIfRefused(outputs: Outputs, check: () -> T): T = try {
        check()
    } catch (error: ModelError) {
        outputs.close()
        throw error
    }

    /** Self-attention keys and values before the first token: `past_*` of length 0. */
    fun emptyCache(cross: Map<String, OnnxTensor>): Cache {
        val tensors = cross.filterKeys { it.startsWith("cross_") }.entries.associate { (name, values) ->
            val (batch, heads, _, headSize) = values.info.shape
            name.replaceFirst("cross_", "past_") to Session.tensor(FloatArray(0), batch, heads, 0, headSize)
        }
        return Cache(tensors) { tensors.values.forEach(OnnxTensor::close) }
    }

    /**
     * Self-attention keys and values of the tokens so far, by the decoder's input names. Beams may share
     * one: it can be closed again.
     */
    class Cache(val tensors: Map<String, OnnxTensor>, private var owner: AutoCloseable?) : AutoCloseable {
        override fun close() {
            owner?.close()
            owner = null
        }
    }

    /**
     * Run the decoder over `tokens`, which follow the ones already in `cache`.
     *
     * @return logits [tokens, vocabulary] and the cache with `tokens` in it, for the caller to close.
     * @throws ModelError it gives something else, or no logits of a token that `settings` name, or failed.
     */
    fun decode(
        decoder: Graph,
        settings: NamesTokens,
        tokens: List<Int>,
        cross: Map<String, OnnxTensor>,
        cache: Cache,
    ): Pair<Array<FloatArray>, Cache> {
        val ids = LongArray(tokens.size) { tokens[it].toLong() }
        val outputs = Session.tensor(ids, 1, ids.size.toLong()).use { fed ->
            decoder.run(cross.filterKeys { it.startsWith("cross_") } + cache.tensors + ("tokens" to fed))
        }
        return closingIfRefused(outputs) {
            val grown = cache.tensors.mapValues { (name, past) ->
                val (batch, heads, length, headSize) = past.info.shape
                val present = name.replaceFirst("past_", "present_")
                checkedOutput(outputs, present, batch, heads, length + tokens.size, headSize)
            }
            val logits = checkedOutput(outputs, "logits", 1, tokens.size.toLong(), null)
            val vocabulary = logits.info.shape[2]
            if (settings.highestToken >= vocabulary) {
                throw ModelError(
                    "model.json names the token ${settings.highestToken}, the model gives logits of $vocabulary; " +
                        "export the model again",
                )
            }
            logits.rows() to Cache(grown, outputs)
        }
    }

    /** The likeliest language: the best language token straight after startOfTranscript. */
    fun detectLanguage(decoder: Graph, settings: WhisperSettings, cross: Map<String, OnnxTensor>): String {
        val start = listOf(settings.startOfTranscript)
        val (logits, cache) = emptyCache(cross).use { decode(decoder, settings, start, cross, it) }
        cache.close()
        return settings.languages.maxBy { (_, token) -> logits.last()[token] }.key
    }

    /** Probability that a window holds no speech; 0 if the model does not say. */
    fun noSpeech(decoder: Graph, settings: WhisperSettings, cross: Map<String, OnnxTensor>): Double {
        val token = settings.noSpeech ?: return 0.0
        val start = listOf(settings.startOfTranscript)
        val (logits, cache) = emptyCache(cross).use { decode(decoder, settings, start, cross, it) }
        cache.close()
        return Keywords.probabilities(logits[0])[token]
    }

    /** The model's own or the one detected; English where the model knows no other. */
    fun spokenLanguage(decoder: Graph, settings: WhisperSettings, cross: Map<String, OnnxTensor>): String =
        settings.language ?: if (settings.languages.isEmpty()) "en" else detectLanguage(decoder, settings, cross)

    /**
     * A copy of logits [vocabulary] in which tokens that never come are at minus infinity.
     *
     * @param logits of the next token.
     * @param tokens so far, without the prompt.
     */
    fun suppress(logits: FloatArray, settings: WhisperSettings, tokens: List<Int>): FloatArray {
        val scores = logits.copyOf()
        for (token in settings.suppress) scores[token] = Float.NEGATIVE_INFINITY
        if (tokens.isEmpty()) for (token in settings.suppressAtBegin) scores[token] = Float.NEGATIVE_INFINITY
        return scores
    }
}
