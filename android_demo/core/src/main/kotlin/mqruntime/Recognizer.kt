package mqruntime

import java.io.File
import java.io.IOException
import java.util.concurrent.atomic.AtomicBoolean

/**
 * A model folder or bundle, opened: PCM in, text out.
 *
 * @param manifest what the model is.
 * @param graphs a graph for each of the manifest's roles; any [Graph], so that a caller can watch every
 *     call that recognition makes.
 * @param vocabulary the token table; null for keyword models.
 * @throws ManifestError the manifest lacks what its task needs.
 */
class Recognizer(
    val manifest: Manifest,
    val graphs: Map<String, Graph>,
    val vocabulary: Vocabulary?,
) : AutoCloseable {
    private var runSeconds: Double? = null

    init {
        val missing = Manifest.ROLES[manifest.task].orEmpty() - graphs.keys
        if (manifest.task !in Manifest.ROLES || missing.isNotEmpty()) {
            throw ManifestError("task '${manifest.task}' lacks ${missing.sorted()}; export again")
        }
        if (manifest.task != "keywords" && vocabulary == null) {
            throw ManifestError("task '${manifest.task}' needs a vocabulary; export again")
        }
    }

    /**
     * Recognize one recording.
     *
     * Whisper decodes recordings up to its window of 30 s greedily and without timestamps, and longer
     * ones phrase by phrase ([Transcription]), unless `options` say otherwise; a language detected in
     * the first window holds for all. CTC models, Moonshine ([Seq2Seq]) and transducers ([Transducer]) get
     * long recordings in pieces.
     * Keyword models give one label for the whole recording; see [keywords].
     *
     * @param pcm mono at the manifest's `sampleRate`, in [-1, 1].
     * @param language ISO code; null lets a multilingual Whisper model detect it.
     * @param options Whisper's decoding choices.
     * @param cancel setting it, from another thread, ends the work between two nodes of a graph.
     * @param onText called with the text so far before every step of the work, and with the whole text
     *     of a Whisper model at the end; may throw to stop. What was drawn at random or followed by a
     *     beam may be taken back again. CTC models have no text before the end.
     * @throws AudioError `pcm` is empty, or holds samples that are NaN, infinite or on the scale of integers.
     * @throws ModelError the model does not know `language` or the task of `options`, or a graph failed.
     * @throws CancelledError `cancel` was set.
     */
    fun transcribe(
        pcm: FloatArray,
        language: String? = null,
        options: DecodingOptions = DecodingOptions(),
        cancel: AtomicBoolean? = null,
        onText: (String) -> Unit = {},
    ): Result {
        if (manifest.whisper == null && (!options.prompt.isNullOrEmpty() || options.previousText)) {
            throw ModelError(
                "a ${manifest.family} model takes no text before a recording; leave prompt and previousText out",
            )
        }
        val asked = manifest.askedTo(options.task)
        check(pcm)
        val seconds = pcm.size.toDouble() / manifest.sampleRate
        val padded = if (pcm.size < manifest.minSamples) pcm.copyOf(manifest.minSamples) else pcm
        return limited(cancel) { graphs ->
            when (manifest.task) {
                "transcribe" -> whisper(graphs, asked, padded, language, seconds, options, onText)
                "seq2seq" -> Seq2Seq(graphs, manifest, vocabulary!!, options, onText).transcribe(padded, seconds)
                "transducer" -> Transducer(graphs, manifest, vocabulary!!, options, onText).transcribe(padded, seconds)
                "ctc" -> ctc(graphs, padded, seconds, onText)
                else -> keyword(graphs, padded, seconds)
            }
        }
    }

    /**
     * Find a keyword model's labels in a recording of any length.
     *
     * @param pcm as of [transcribe].
     * @param threshold least probability.
     * @param window seconds the model hears at once.
     * @param hop seconds from one window to the next.
     * @param ignored labels that mean that no keyword was said.
     * @param cancel as of [transcribe].
     * @return a segment for each run of windows with the same label; they overlap.
     * @throws ModelError this is not a keyword model, or a graph failed.
     * @throws AudioError as of [transcribe].
     * @throws CancelledError likewise.
     */
    fun keywords(
        pcm: FloatArray,
        threshold: Double = 0.5,
        window: Double = 1.0,
        hop: Double = 0.25,
        ignored: Set<String> = NO_KEYWORDS,
        cancel: AtomicBoolean? = null,
    ): List<Segment> {
        if (manifest.task != "keywords") throw ModelError("the model's task is '${manifest.task}'; it knows no keywords")
        check(pcm)
        val rate = manifest.sampleRate
        val found = limited(cancel) { graphs ->
            Keywords.sliding(
                { labelLogits(graphs, it) },
                pcm,
                maxOf(Math.rint(window * rate).toInt(), manifest.minSamples),
                maxOf(Math.rint(hop * rate).toInt(), 1),
                threshold,
                manifest.labels.indices.filter { manifest.labels[it] in ignored }.toSet(),
            )
        }
        return found.map {
            val label = manifest.labels[it.label]
            Segment(it.start.toDouble() / rate, it.end.toDouble() / rate, label, listOf(it.label), it.probability)
        }
    }

    /** Recognize live audio; arguments as of [Stream]. */
    fun stream(
        language: String? = null,
        options: DecodingOptions = DecodingOptions(),
        vad: VadSettings = VadSettings(),
        partialSeconds: Double? = 1.0,
        cancel: AtomicBoolean? = null,
        onStep: () -> Unit = {},
    ): Stream = Stream(this, language, options, vad, partialSeconds, cancel, onStep)

    /** Free the graphs' memory. */
    override fun close() {
        for (graph in graphs.values) if (graph is Session) graph.close()
    }

    /** Work with the graphs, whose runs end. */
    internal fun <T> limited(cancel: AtomicBoolean?, work: (Map<String, Graph>) -> T): T =
        RunLimit(cancel, runSeconds).use { work(it.graphs(graphs)) }

    private val encoder = lazy { BytePairEncoder.of(vocabulary!!, manifest.whisper!!) }

    private fun whisper(
        graphs: Map<String, Graph>,
        asked: Manifest,
        pcm: FloatArray,
        language: String?,
        seconds: Double,
        options: DecodingOptions,
        onText: (String) -> Unit,
    ): Result {
        val settings = asked.whisper ?: throw ManifestError("a transcribe model needs `whisper`")
        if (settings.languages.isEmpty() && language != null && language != "en") {
            throw ModelError("language '$language': this model knows English only; leave it out")
        }
        val previous = PreviousText.of(options, settings, vocabulary!!, encoder)
        val work = Transcription(graphs, settings, vocabulary, manifest.sampleRate, language, options, previous, onText)
        val segments = work.segments(pcm).toList()
        val text = segments.map { it.text }.filter(String::isNotEmpty).joinToString(" ")
        onText(text)
        return Result(text, segments.flatMap { it.tokens }, work.language, seconds, work.timings, segments = segments)
    }

    private fun ctc(graphs: Map<String, Graph>, pcm: FloatArray, seconds: Double, onText: (String) -> Unit): Result {
        val settings = manifest.ctc ?: throw ManifestError("a ctc model needs `ctc`")
        val rate = manifest.sampleRate
        val start = System.nanoTime()
        val logits = Ctc.logitsInPieces({
            onText("")
            run(graphs, it) { outputs -> checkedOutput(outputs, "logits", 1, null, null).rows() }
        }, pcm, PIECE_SECONDS * rate, MARGIN_SECONDS * rate)
        val timings = mapOf("model" to (System.nanoTime() - start) / 1e9)
        val most = logits.maxOfOrNull { it.size } ?: 0
        if (most > vocabulary!!.tokens.size) {
            throw ManifestError("the vocabulary has ${vocabulary.tokens.size} tokens, the model $most; export again")
        }
        val found = Ctc.spoken(logits, settings.blank)
        val frame = pcm.size.toDouble() / rate / logits.size
        val words = Ctc.words(found, settings.wordDelimiter) { vocabulary.tokens[it].startsWith(" ") }
        val segments = words.map { word(it, settings, frame, seconds) }.filter { it.text.isNotEmpty() }
        val tokens = found.map { it.token }
        return Result(vocabulary.ctcText(tokens, settings), tokens, null, seconds, timings, segments = segments)
    }

    private fun word(spoken: List<Ctc.Spoken>, settings: CtcSettings, frame: Double, seconds: Double): Segment {
        val tokens = spoken.map { it.token }
        return Segment(
            milliseconds(spoken.first().start * frame),
            milliseconds(minOf(spoken.last().end * frame, seconds)),
            vocabulary!!.ctcText(tokens, settings),
            tokens,
            spoken.sumOf { it.probability } / spoken.size,
        )
    }

    private fun keyword(graphs: Map<String, Graph>, pcm: FloatArray, seconds: Double): Result {
        val start = System.nanoTime()
        val (index, score) = Keywords.bestLabel(labelLogits(graphs, pcm))
        val timings = mapOf("model" to (System.nanoTime() - start) / 1e9)
        val label = manifest.labels[index]
        val segments = listOf(Segment(0.0, seconds, label, listOf(index), score))
        return Result(label, listOf(index), null, seconds, timings, score, segments)
    }

    private fun labelLogits(graphs: Map<String, Graph>, pcm: FloatArray): FloatArray {
        val logits = run(graphs, pcm) { checkedOutput(it, "logits", 1, null).floats() }
        if (logits.size != manifest.labels.size) {
            throw ManifestError("there are ${manifest.labels.size} labels, the model has ${logits.size}; export again")
        }
        return logits
    }

    private fun <T> run(graphs: Map<String, Graph>, pcm: FloatArray, read: (Outputs) -> T): T =
        Session.tensor(pcm, 1, pcm.size.toLong()).use { fed ->
            graphs.getValue("model").run(mapOf("pcm" to fed)).use(read)
        }

    companion object {
        private const val PIECE_SECONDS = 20 // of a long recording, what a CTC model gets at once,
        private const val MARGIN_SECONDS = 5 // and what it hears around it
        private val NO_KEYWORDS = setOf("_silence_", "_unknown_", "silence", "unknown")

        /**
         * Open a bundle made by `mqtool package`, or a folder made by `mqtool export` or `pack`.
         *
         * @param path an .mqz file, or a folder that holds model.json and the files it names.
         * @param publicKey PEM text of the key a bundle must be signed with ([Bundle.open]).
         * @param threads threads inside an operator; 0 lets onnxruntime choose.
         * @param optimize onnxruntime's graph optimization on or off.
         * @param operators which the graphs' nodes may be, a `domain::` before those that are not ONNX's
         *     own; the default is what mqtool writes; null for any.
         * @param runSeconds most that one run of a graph may take, of a bundle opened without a key; null
         *     for as long as it takes.
         * @throws ModelError the bundle or folder, its manifest or a graph cannot be used.
         */
        fun open(
            path: File,
            publicKey: String? = null,
            threads: Int = 0,
            optimize: Boolean = true,
            operators: Set<String>? = OPERATORS,
            runSeconds: Double? = RunLimit.RUN_SECONDS,
        ): Recognizer {
            if (!path.isDirectory) {
                return openBundle(Bundle.open(path, publicKey), threads, optimize, operators, runSeconds)
            }
            if (publicKey != null) throw SignatureError("$path: is a folder, which cannot be signed; give an .mqz")
            return openFolder(path, threads, optimize, operators)
        }

        /** Open a bundle's model; arguments and errors as of [open]. */
        fun openBundle(
            bundle: Bundle,
            threads: Int = 0,
            optimize: Boolean = true,
            operators: Set<String>? = OPERATORS,
            runSeconds: Double? = RunLimit.RUN_SECONDS,
        ): Recognizer {
            val manifest = bundle.manifest.model
            val vocabulary = manifest.vocabulary?.let { Vocabulary.parse(bundle.bytes(it), "${bundle.path}/$it") }
            val opened = withGraphs(manifest, vocabulary) { name ->
                val data = "$name.data".takeIf { it in manifest.coded }?.let(bundle::stream)
                Session(File(bundle.path, name), bundle.read(name), data, threads, optimize, operators)
            }
            opened.runSeconds = if (bundle.isVerified) null else runSeconds
            return opened
        }

        private fun openFolder(folder: File, threads: Int, optimize: Boolean, operators: Set<String>?): Recognizer {
            val manifest = Manifest.read(folder)
            val vocabulary = manifest.vocabulary?.let { Vocabulary.read(File(folder, it)) }
            return withGraphs(manifest, vocabulary) { name ->
                val data = stream(folder, manifest, "$name.data")
                Session(File(folder, name), null, data, threads, optimize, operators)
            }
        }

        /** The coded weights of a folder; null where they are not coded, or lie inflated beside the graph. */
        private fun stream(folder: File, manifest: Manifest, data: String): CodedStream? {
            val coded = manifest.coded[data]
            if (coded == null || File(folder, data).isFile) return null
            val file = File(folder, "$data.gz")
            try {
                return CodedStream.ofGzip(file, coded)
            } catch (error: IllegalArgumentException) {
                throw ModelError("$file: ${firstLine(error)}; pack again", error)
            } catch (error: IOException) {
                throw ModelError("$file: cannot be read (${firstLine(error)})", error)
            }
        }

        /** If one graph cannot be opened, those before it are closed. */
        private fun withGraphs(manifest: Manifest, vocabulary: Vocabulary?, open: (String) -> Session): Recognizer {
            val graphs = LinkedHashMap<String, Session>()
            try {
                for ((role, name) in manifest.graphs) graphs[role] = open(name)
                return Recognizer(manifest, graphs, vocabulary)
            } catch (error: MqError) {
                graphs.values.forEach(Session::close)
                throw error
            }
        }

        private fun check(pcm: FloatArray) {
            if (pcm.isEmpty()) throw AudioError("PCM holds no samples; give a recording that is not empty")
            Wav.checkRange("PCM", pcm)
        }
    }
}
