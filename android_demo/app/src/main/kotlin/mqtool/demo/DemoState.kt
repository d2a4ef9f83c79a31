package mqtool.demo

import android.content.Context
import android.os.Build
import android.os.Handler
import android.os.Looper
import mqruntime.AudioError
import mqruntime.BundleError
import mqruntime.CancelledError
import mqruntime.EnergyVad
import mqruntime.ModelError
import mqruntime.MqError
import mqruntime.Result
import mqruntime.Segment
import mqruntime.Selftest
import mqruntime.Wav
import mqruntime.printable
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.util.Locale
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/**
 * What the app knows and does, whichever activity shows it. All properties belong to the main thread.
 *
 * @param background one thread for work.
 * @param main the main thread.
 */
class DemoState(
    private val context: Context,
    background: Executor = Executors.newSingleThreadExecutor(),
    main: Executor = Handler(Looper.getMainLooper()).let { handler -> Executor { handler.post(it) } },
    var microphone: Microphone = PhoneMicrophone(context),
) {
    private val worker = Worker(background, main)
    private var task: Worker.Task? = null
    private val lastFile = File(context.cacheDir, "last.wav")
    val models = Models()
    val store = BundleStore(File(context.filesDir, "bundles"))
    val clips = CalibrationClips(File(context.filesDir, "clips"))

    /** Called when something has changed that is shown. */
    var observer: (() -> Unit)? = null

    var bundles: List<File> = store.list()
        private set
    var selected: File? = bundles.firstOrNull()
        private set
    var status: String? = null
        private set
    var progress: Int? = null
        private set
    val isBusy: Boolean get() = task != null
    var recording: Recording? = null
        private set
    var levelDb = SILENCE_DB
        private set
    var text = ""
        private set
    var details = ""
        private set
    var labels: List<String> = emptyList()
        private set
    var found: List<Pair<String, Double>> = emptyList()
        private set
    var compared: List<Compared> = emptyList()
        private set
    var figures: Figures? = null
        private set
    var manifest: mqruntime.Bundle? = null
        private set
    var checked = ""
        private set

    /** The last recording, which survives the process. */
    var last: FloatArray? = null
        get() = field ?: readLast().also { field = it }
        private set

    // Models

    /** Copy in what came with the app and what adb pushed, unless it is here. */
    fun importPresent() {
        val pushed = context.getExternalFilesDir(null)?.listFiles().orEmpty().filter { it.name.endsWith(BundleStore.SUFFIX) }
        val bundled = context.assets.list("").orEmpty().filter { it.endsWith(BundleStore.SUFFIX) }
        for (file in pushed) if (isNew(file.name, file.length())) import(file.name, file.length()) { file.inputStream() }
        for (name in bundled) if (isNew(name, null)) import(name, null) { context.assets.open(name) }
        if (selected != null) describe()
    }

    /** Copy a bundle in, check it, and use it. */
    fun import(name: String, length: Long?, open: () -> InputStream) = work { task ->
        val file = store.import(name, open(), length) {
            task.check()
            show(it, name)
        }
        worker.post {
            bundles = store.list()
            selected = null
            select(file)
            say(context.getString(R.string.added, file.name))
        }
    }

    fun select(file: File?) {
        if (file == selected) return
        selected = file
        labels = emptyList()
        found = emptyList()
        manifest = null
        checked = ""
        changed()
        describe()
    }

    fun removeSelected() {
        selected?.let(store::remove)
        models.close()
        bundles = store.list()
        selected = null
        select(bundles.firstOrNull())
        changed()
    }

    /** Restore what an earlier process showed. */
    fun restore(name: String?, text: String, details: String) {
        if (this.text.isEmpty()) {
            this.text = text
            this.details = details
        }
        bundles.firstOrNull { it.name == name }?.let(::select)
    }

    private fun describe() {
        val file = selected ?: return
        work(context.getString(R.string.opening, file.name)) {
            val opened = models.open(file)
            worker.post {
                manifest = opened.bundle
                labels = opened.recognizer.manifest.labels.map { printable(it) }
                say(null)
            }
        }
    }

    private fun isNew(name: String, length: Long?) =
        bundles.none { it.name == BundleStore.fileName(name) && (length == null || it.length() == length) }

    private fun show(step: BundleStore.Progress, name: String) {
        val percent = step.total?.let { (100 * step.done / maxOf(it, 1)).toInt() }
        worker.post {
            progress = percent
            status = when {
                percent == null -> context.getString(R.string.copying_unknown, name, (step.done / 1024).toInt())
                step.step == BundleStore.Step.COPY -> context.getString(R.string.copying, name, percent)
                else -> context.getString(R.string.checking, name, percent)
            }
            changed()
        }
    }

    // Recording

    /** Begin to record; the caller has asked for the permission. */
    fun startRecording(purpose: Purpose) {
        if (recording != null) return
        val started = Recording(purpose)
        recording = started
        say(context.getString(R.string.listening))
        val spotter = if (purpose == Purpose.KEYWORDS) spotter(started) ?: return stopRecording() else null
        microphone.start(
            { chunk -> heardChunk(started, spotter, chunk) },
            { failure -> worker.post { failed(started, failure) } },
        )
    }

    /** End the recording, and do with it what it is for. */
    fun stopRecording() = end(null)

    /** The app is left, or a call comes in: end the recording and keep it. */
    fun interrupt() {
        if (recording != null) end(context.getString(R.string.error_interrupted))
    }

    /** Take a WAV file instead of a recording. */
    fun openRecording(name: String, purpose: Purpose, open: () -> InputStream) = work(context.getString(R.string.working)) {
        val content = Wav.parse(open().use { it.readBytes() }, name)
        val pcm = Wav.resample(content.mono(), content.rate, PhoneMicrophone.RATE)
        worker.post { use(purpose, pcm, null) }
    }

    private fun heardChunk(started: Recording, spotter: KeywordSpotter?, chunk: FloatArray) {
        if (spotter == null) started.add(chunk)
        val words = try {
            spotter?.feed(chunk).orEmpty()
        } catch (error: MqError) { // the model was closed, or cannot be run
            worker.post { if (recording === started) end(error.message) }
            return
        }
        val level = EnergyVad.levelDb(chunk)
        worker.post {
            if (recording !== started) return@post
            levelDb = level
            found = (words.map { printable(it.text) to (it.score ?: 0.0) }.reversed() + found).take(MOST_FOUND)
            if (started.isFull) stopRecording() else changed()
        }
    }

    private fun failed(started: Recording, failure: Microphone.Failure) {
        if (recording !== started) return
        val message = when (failure) {
            Microphone.Failure.UNAVAILABLE -> R.string.error_microphone
            Microphone.Failure.INTERRUPTED -> R.string.error_interrupted
        }
        end(context.getString(message))
    }

    private fun end(reason: String?) {
        val ended = recording ?: return
        ended.ended.set(true)
        microphone.stop()
        recording = null
        levelDb = SILENCE_DB
        say(reason)
        val pcm = ended.pcm()
        when {
            ended.purpose == Purpose.KEYWORDS -> return
            pcm.size < Recording.SHORTEST * PhoneMicrophone.RATE ->
                if (reason == null) say(context.getString(R.string.error_too_short))
            else -> use(ended.purpose, pcm, reason)
        }
    }

    private fun use(purpose: Purpose, pcm: FloatArray, reason: String?) {
        if (purpose == Purpose.CLIP) {
            val message = try {
                context.getString(R.string.clip_kept, clips.add(pcm).name)
            } catch (error: AudioError) {
                error.message
            } catch (error: IOException) {
                context.getString(R.string.error_save, error.message.orEmpty())
            }
            return say(message)
        }
        keepLast(pcm)
        compared = emptyList()
        if (purpose == Purpose.TRANSCRIBE) transcribe(pcm) else say(reason)
    }

    private fun keepLast(pcm: FloatArray) {
        last = pcm
        try {
            lastFile.writeBytes(Wav.bytes(pcm))
        } catch (error: IOException) {
            lastFile.delete() // it then ends with the process
        }
    }

    private fun readLast(): FloatArray? = try {
        if (lastFile.isFile) Wav.load(lastFile) else null
    } catch (error: AudioError) {
        null
    }

    // Recognition

    private fun transcribe(pcm: FloatArray) {
        val file = selected ?: return say(context.getString(R.string.no_model))
        text = ""
        details = ""
        work(context.getString(R.string.working)) { task ->
            val recognizer = models.open(file).recognizer
            val result = recognizer.transcribe(pcm, cancel = task.cancelled) { soFar ->
                task.check()
                worker.post {
                    text = printable(soFar)
                    changed()
                }
            }
            val phrases = if (recognizer.manifest.task in PHRASED_TASKS) result.segments else emptyList()
            worker.post { show(result, phrases.filter { it.text.isNotEmpty() }) }
        }
    }

    private fun show(result: Result, phrases: List<Segment>) {
        val heard = printable(result.text)
        val timed = phrases.map(::timed)
        text = if (timed.size > 1) timed.joinToString("\n") else heard
        if (text.isEmpty()) text = context.getString(R.string.heard_nothing)
        val time = context.getString(R.string.heard_details, result.seconds, result.timings.values.sum())
        val language = result.language?.let { context.getString(R.string.language, Locale(it).displayLanguage) }
        val score = result.score?.let { context.getString(R.string.keyword_score, heard, (100 * it).toInt()) }
        details = listOfNotNull(language, score, time).joinToString("\n")
        say(null)
    }

    private fun timed(phrase: Segment): String {
        val second = phrase.start.toInt()
        return context.getString(R.string.phrase, second / 60, second % 60, printable(phrase.text))
    }

    private fun spotter(started: Recording): KeywordSpotter? {
        val file = selected
        val message = try {
            val recognizer = file?.let { models.open(it).recognizer }
            when {
                recognizer == null -> context.getString(R.string.no_model)
                recognizer.manifest.task != "keywords" -> context.getString(R.string.not_a_keyword_model)
                else -> return KeywordSpotter(recognizer, cancel = started.ended)
            }
        } catch (error: ModelError) {
            error.message
        }
        recording = null
        say(message)
        return null
    }

    /** Run two bundles on the last recording. */
    fun compare(files: List<File>) {
        val pcm = last ?: return say(context.getString(R.string.needs_recording))
        models.close()
        compared = emptyList()
        work(context.getString(R.string.working)) { task ->
            val heard = Comparison.run(files, pcm, task.cancelled) { _, _ -> task.check() }
            worker.post {
                compared = heard.map { it.copy(text = printable(it.text)) }
                say(null)
            }
        }
    }

    /** Measure the selected bundle on the last recording, or on noise. */
    fun benchmark(threads: Int) {
        val file = selected ?: return say(context.getString(R.string.no_model))
        val pcm = last ?: noise()
        models.close()
        figures = null
        work(context.getString(R.string.working)) { task ->
            val measured = Benchmark.run(file, pcm, threads, RUNS, device(), task.cancelled) { run ->
                task.check()
                worker.post { say(context.getString(R.string.benchmark_running, run, RUNS)) }
            }
            worker.post {
                figures = measured
                say(null)
            }
        }
    }

    /** Run the golden clips of the selected bundle. */
    fun selftest() {
        val file = selected ?: return
        work(context.getString(R.string.working)) { task ->
            val opened = models.open(file)
            val results = Selftest.run(opened.bundle, opened.recognizer, task.cancelled).toList()
            val bad = results.firstOrNull { !it.passed }
            val texts = listOfNotNull(bad?.expected?.pcm, bad?.expected?.text, bad?.heard?.text).map { printable(it) }
            worker.post {
                checked = if (bad == null) context.getString(R.string.about_selftest_good, results.size)
                else context.getString(R.string.about_selftest_bad, texts[0], texts[1], texts[2])
                say(null)
            }
        }
    }

    // Saving

    /** Write the clips as a zip. */
    fun exportClips(open: () -> OutputStream) = save { clips.export(open()) }

    /** Write the benchmark's figures. */
    fun exportFigures(open: () -> OutputStream) {
        val json = figures?.toJson() ?: return
        save { open().use { it.write(json.toByteArray()) } }
    }

    private fun save(write: () -> Unit) = work(context.getString(R.string.working)) {
        try {
            write()
        } catch (error: IOException) {
            throw ModelError(context.getString(R.string.error_save, error.message.orEmpty()))
        }
        worker.post { say(context.getString(R.string.saved)) }
    }

    // Showing

    fun cancel() {
        task?.cancel()
    }

    /** Show one line, or none. */
    fun say(message: String?) {
        status = message
        progress = null
        changed()
    }

    private fun work(message: String? = null, action: (Worker.Task) -> Unit) {
        if (message != null) say(message)
        var mine: Worker.Task? = null
        mine = worker.start(action) { error ->
            if (task === mine) task = null
            if (error != null) say(reason(error)) else changed()
        }
        task = mine
        changed()
    }

    private fun reason(error: Throwable): String = when (error) {
        is Cancelled, is CancelledError -> context.getString(R.string.cancelled)
        is OutOfMemoryError -> context.getString(R.string.error_memory)
        is BundleError, is MqError -> error.message.orEmpty().replace(context.filesDir.path + "/bundles/", "")
        is IOException, is SecurityException -> context.getString(R.string.error_file, error.message.orEmpty())
        else -> throw error
    }

    private fun changed() {
        observer?.invoke()
    }

    private fun device() = "${Build.MANUFACTURER} ${Build.MODEL}, Android ${Build.VERSION.RELEASE}"

    private fun noise(): FloatArray {
        val random = java.util.Random(0)
        return FloatArray(10 * PhoneMicrophone.RATE) { 0.1f * random.nextGaussian().toFloat() }
    }

    companion object {
        const val SILENCE_DB = -120.0
        private const val MOST_FOUND = 50
        private const val RUNS = 5

        /** Tasks whose segments are phrases; those of others are words. */
        private val PHRASED_TASKS = setOf("transcribe", "seq2seq")
    }
}
