package mqruntime

import java.io.File

/**
 * Token ids and limits that Whisper's decoding loop needs.
 *
 * @property window samples the encoder sees at once (480000, 30 s).
 * @property maxTokens length of the decoder's position table, prompt included (448).
 * @property languages ISO code -> token id; empty for English-only models.
 * @property transcribe task token, null for English-only models.
 * @property suppress token ids never produced.
 * @property suppressAtBegin token ids not produced as the first token after the prompt.
 * @property words tokens of text beyond `endOfText`, which else begins those that are no text.
 * @property language spoken where nobody says another; null to detect it.
 * @property task what is made of speech: `transcribe` or `translate`.
 */
data class WhisperSettings(
    val window: Int,
    val maxTokens: Int,
    val startOfTranscript: Int,
    val endOfText: Int,
    val noTimestamps: Int,
    val timestampBegin: Int,
    val noSpeech: Int?,
    val transcribe: Int?,
    val translate: Int?,
    val languages: Map<String, Int>,
    val suppress: List<Int>,
    val suppressAtBegin: List<Int>,
    val words: List<Int> = emptyList(),
    val language: String? = null,
    val task: String = TRANSCRIBE,
) : NamesTokens {
    private val known: Set<Int> = words.toHashSet()

    /** The timestamps. */
    val times: IntRange get() = timestampBegin until timestampBegin + TIMESTAMPS

    /** Tokens of prompts; tokenizers that were trained anew may have them before the text. */
    private val steering: Set<Int> =
        listOfNotNull(startOfTranscript, noTimestamps, noSpeech, transcribe, translate).toHashSet() + languages.values

    /** Whether a token is text: no timestamp, and none that steers the model. */
    fun isText(token: Int): Boolean =
        (token < endOfText || token in known) && token !in steering && token !in times

    /** Every token id that is named here. */
    val tokens: List<Int>
        get() = listOfNotNull(
            startOfTranscript, endOfText, noTimestamps, timestampBegin, noSpeech, transcribe, translate,
        ) + languages.values + suppress + suppressAtBegin + words

    /** Of [tokens]; there are models without timestamps, whose first would be behind all. */
    override val highestToken: Int by lazy { tokens.filter { it != timestampBegin }.max() }

    /** Check what the types do not say; throws IllegalArgumentException. */
    fun check() {
        require(window in 320..48000 * 60 && window % 320 == 0) {
            "whisper.window is $window, not a multiple of 320 to a minute's"
        }
        require(maxTokens in 1..(1 shl 16)) { "whisper.max_tokens is $maxTokens, not 1 to ${1 shl 16}" }
        require(tokens.min() >= 0) { "whisper names the token ${tokens.min()}" }
        require(languages.isEmpty() || transcribe != null) { "whisper.transcribe is null, but there are languages" }
        require(task == TRANSCRIBE || translate != null) { "whisper.task is translate, but there is no such token" }
        require(language == null || language in languages) {
            "whisper.language is '$language', none of whisper.languages"
        }
    }

    companion object {
        private const val TRANSCRIBE = "transcribe"
        internal const val TRANSLATE = "translate"
        internal val TASKS = listOf(TRANSCRIBE, TRANSLATE)
        private const val TIMESTAMPS = 1501 // 0.00 s to 30.00 s in steps of 0.02 s

        internal fun of(fields: Fields) = WhisperSettings(
            fields.int("window"),
            fields.int("max_tokens"),
            fields.int("start_of_transcript"),
            fields.int("end_of_text"),
            fields.int("no_timestamps"),
            fields.int("timestamp_begin"),
            fields.optionalInt("no_speech"),
            fields.optionalInt("transcribe"),
            fields.optionalInt("translate"),
            fields.intMap("languages"),
            fields.ints("suppress"),
            fields.ints("suppress_at_begin"),
            // These are there only where they say something.
            if (fields.holds("words")) fields.ints("words") else emptyList(),
            if (fields.holds("language")) fields.string("language") else null,
            if (fields.holds("task")) fields.choice("task", listOf(TRANSLATE)) else TRANSCRIBE,
        ).also { fields.done() }
    }
}

/**
 * How CTC's tokens become text.
 *
 * @property blank token that is no text.
 * @property wordDelimiter token that stands for a space between words; null: words begin at tokens that
 *     begin with a space.
 * @property cleanUp whether spaces before punctuation and English contractions go.
 * @property byteFallback whether tokens <0x00> to <0xFF> are bytes, as in [Vocabulary.byteFallbackText].
 */
data class CtcSettings(
    val blank: Int,
    val wordDelimiter: Int?,
    val cleanUp: Boolean = false,
    val byteFallback: Boolean = false,
) {
    companion object {
        internal fun of(fields: Fields) = CtcSettings(
            fields.int("blank"),
            fields.optionalInt("word_delimiter"),
            fields.holds("clean_up") && fields.boolean("clean_up"),
            fields.holds("byte_fallback") && fields.boolean("byte_fallback"),
        ).also { fields.done() }
    }
}

/**
 * What a model is and how to run it: `model.json`, described in `mqruntime/bundle/manifest.py`.
 *
 * @property family transformers' `model_type` (whisper, wav2vec2, hubert, wavlm, ...).
 * @property task `transcribe`, `ctc`, `keywords`, `seq2seq` or `transducer`.
 * @property graphs role (encoder, decoder, predictor, joint, model) -> file name.
 * @property vocabulary file name of the token table; null for keyword models.
 * @property labels keyword models: label i of the logits.
 * @property minSamples shortest input the graphs take; shorter PCM is padded with zeros.
 * @property source name, licence and revision of the model this was made from (free text values).
 * @property packed null for a float model; for a packed one what it was packed by.
 * @property format of model.json: 2 where weights are coded.
 * @property coded where the weights of format 2 are cut, by the name of the data that they inflate to.
 * @property seq2seq what decoding of task `seq2seq` needs; null for other tasks.
 * @property transducer likewise.
 */
data class Manifest(
    val family: String,
    val task: String,
    val sampleRate: Int,
    val graphs: Map<String, String>,
    val vocabulary: String?,
    val labels: List<String>,
    val minSamples: Int,
    val whisper: WhisperSettings?,
    val ctc: CtcSettings?,
    val source: Map<String, String>,
    val packed: Map<*, *>?,
    val format: Long = FORMAT,
    val coded: Map<String, CodedData> = emptyMap(),
    val seq2seq: Seq2SeqSettings? = null,
    val transducer: TransducerSettings? = null,
) {
    /** Files that the manifest names; external data of graphs comes on top. */
    val files: List<String> get() = graphs.values + listOfNotNull(vocabulary)

    /**
     * The manifest of the same model with another task of [WhisperSettings]; itself for null.
     *
     * @throws ModelError it has no such task.
     */
    fun askedTo(speechTask: String?): Manifest {
        if (speechTask == null || speechTask == whisper?.task) return this
        val translates = speechTask == WhisperSettings.TRANSLATE
        val reason = when {
            whisper == null -> "a $task model knows no tasks"
            translates && whisper.languages.isEmpty() -> "this model knows English only"
            translates && whisper.translate == null -> "this model has no token for it"
            else -> return copy(whisper = whisper.copy(task = speechTask))
        }
        val called = source["name"] ?: family
        throw ModelError("$called: task '$speechTask': $reason; leave it out or take a multilingual Whisper")
    }

    /** Check what the types do not say; throws IllegalArgumentException. */
    fun check() {
        val unknown = coded.keys - graphs.values.map { "$it.data" }.toSet()
        require(unknown.isEmpty()) { "packed.weights names '${unknown.min()}', the data of no graph" }
        val roles = ROLES.getValue(task)
        require(graphs.keys == roles) { "task '$task' has graphs ${graphs.keys.sorted()}, not $roles" }
        require(sampleRate in 8000..48000) { "sample_rate is $sampleRate, not 8000 to 48000" }
        require(minSamples in 1..60 * sampleRate) { "min_samples is $minSamples, not 1 to a minute's" }
        val fields = listOf(
            Triple("transcribe", "whisper", whisper),
            Triple("ctc", "ctc", ctc),
            Triple("seq2seq", "seq2seq", seq2seq),
            Triple("transducer", "transducer", transducer),
        )
        for ((ofTask, name, settings) in fields) {
            require((task == ofTask) == (settings != null)) { "task '$task' and field `$name` do not go together" }
        }
        require((task == "keywords") == labels.isNotEmpty()) {
            "task '$task' and ${labels.size} labels do not go together"
        }
        require((task == "keywords") == (vocabulary == null)) { "task '$task' and vocabulary $vocabulary do not fit" }
        whisper?.check()
        seq2seq?.check(sampleRate, minSamples)
        transducer?.check(sampleRate, minSamples)
        require(ctc == null || ctc.blank >= 0 && (ctc.wordDelimiter ?: 0) >= 0) { "ctc holds a negative token id" }
    }

    companion object {
        const val FORMAT = 1L
        const val CODED_FORMAT = 2L
        const val NAME = "model.json"

        /** Roles of a task's graphs. */
        val ROLES = mapOf(
            "transcribe" to setOf("encoder", "decoder"),
            "ctc" to setOf("model"),
            "keywords" to setOf("model"),
            "seq2seq" to setOf("encoder", "decoder"),
            "transducer" to setOf("encoder", "predictor", "joint"),
        )

        /**
         * Read and check the bytes of a `model.json`.
         *
         * @param content the file.
         * @param name what to call it in errors.
         * @throws ManifestError not JSON, another format, or a field that is missing, unknown or of
         *     the wrong type or range.
         */
        fun parse(content: ByteArray, name: String): Manifest {
            val value = try {
                parseJson(content)
            } catch (error: IllegalArgumentException) {
                throw ManifestError("$name: not valid JSON (${firstLine(error)}); export or pack again")
            }
            val format = (value as? Map<*, *>)?.get("format")
            if (format != FORMAT && format != CODED_FORMAT) {
                throw ManifestError("$name: format $format, this version reads $FORMAT and $CODED_FORMAT")
            }
            return try {
                of(Fields(value))
            } catch (error: IllegalArgumentException) {
                throw ManifestError("$name: ${firstLine(error)}; export or pack again")
            }
        }

        /**
         * Read and check `folder/model.json`.
         *
         * @throws ManifestError no such folder or file, a file it names is not there, or see [parse].
         */
        fun read(folder: File): Manifest {
            val path = File(folder, NAME)
            if (!path.isFile) {
                throw ManifestError("$folder: no $NAME here; give a folder made by mqtool export or pack")
            }
            val manifest = parse(path.readBytes(), path.toString())
            for (name in manifest.files) {
                if (File(name).name != name || !File(folder, name).isFile) {
                    throw ManifestError("$path: names '$name', which is not a file beside it")
                }
            }
            return manifest
        }

        /** From the JSON object; throws IllegalArgumentException. */
        internal fun of(fields: Fields): Manifest {
            val manifest = Manifest(
                fields.string("family"),
                fields.choice("task", ROLES.keys),
                fields.int("sample_rate"),
                fields.stringMap("graphs"),
                if (fields.has("vocabulary")) fields.optionalString("vocabulary") else null,
                if (fields.has("labels")) fields.strings("labels") else emptyList(),
                if (fields.has("min_samples")) fields.int("min_samples") else 1,
                if (fields.has("whisper")) fields.optionalFields("whisper")?.let(WhisperSettings::of) else null,
                if (fields.has("ctc")) fields.optionalFields("ctc")?.let(CtcSettings::of) else null,
                if (fields.has("source")) fields.stringMap("source") else emptyMap(),
                if (fields.has("packed")) fields.optionalMap("packed") else null,
                seq2seq = ofTask(fields, "seq2seq", Seq2SeqSettings::of),
                transducer = ofTask(fields, "transducer", TransducerSettings::of),
            )
            val format = fields.long("format")
            require(format == FORMAT || format == CODED_FORMAT) { "format is $format" }
            fields.done()
            return manifest.copy(format = format, coded = coded(manifest.packed, format)).also { it.check() }
        }

        /** Of the only task whose files have it. */
        private fun <T> ofTask(fields: Fields, name: String, read: (Fields) -> T): T? =
            if (fields.holds(name)) fields.optionalFields(name)?.let(read) else null

        private fun coded(packed: Map<*, *>?, format: Long): Map<String, CodedData> {
            val isCoded = packed != null && "weights" in packed
            require((format == CODED_FORMAT) == isCoded) {
                "format $format and the field `packed.weights` do not go together"
            }
            if (packed == null || !isCoded) return emptyMap()
            val weights = requireNotNull(packed["weights"] as? Map<*, *>) { "packed.weights is not an object" }
            return weights.entries.associate { (name, parts) ->
                name.toString() to CodedData.of(parts, "packed.weights.$name")
            }
        }
    }
}
