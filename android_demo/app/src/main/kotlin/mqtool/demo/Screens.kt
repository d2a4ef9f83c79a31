package mqtool.demo

import android.annotation.SuppressLint
import android.view.LayoutInflater
import android.view.MotionEvent
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.Spinner
import android.widget.TextView
import mqruntime.Session
import java.io.File
import java.text.NumberFormat
import mqruntime.printable

/** What a screen may ask of the activity it is in. */
interface Host {
    val state: DemoState

    /** Record, once the permission is given. */
    fun record(purpose: Purpose)

    fun pickRecording(purpose: Purpose)

    fun saveClips()

    fun saveFigures()
}

/** One of the tabs; [render] shows the state. */
abstract class Screen(protected val host: Host, layout: Int, parent: ViewGroup) {
    val view: View = LayoutInflater.from(parent.context).inflate(layout, parent, false)
    protected val state get() = host.state

    abstract fun render()

    protected fun string(id: Int, vararg arguments: Any): String = view.context.getString(id, *arguments)

    protected fun label(id: Int): TextView = view.findViewById(id)

    /** Show text, or nothing where there is none. */
    protected fun show(id: Int, text: String) {
        label(id).text = text
        label(id).visibility = if (text.isEmpty()) View.GONE else View.VISIBLE
    }

    protected fun button(id: Int, action: () -> Unit): Button =
        view.findViewById<Button>(id).apply { setOnClickListener { action() } }

    protected fun number(value: Long): String = NumberFormat.getIntegerInstance().format(value)
}

/** The button that records while it is held; a click, which TalkBack makes, starts and stops. */
class TalkButton(private val host: Host, private val button: Button, private val purpose: Purpose) {
    private var held = false

    init {
        button.setOnClickListener { toggle() }
        button.setOnTouchListener(::touched)
    }

    fun render(level: LevelView) {
        val recording = host.state.recording?.purpose == purpose
        button.isEnabled = !host.state.isBusy || recording
        button.setText(if (recording) R.string.release_to_stop else R.string.hold_to_talk)
        button.setBackgroundResource(if (recording) R.drawable.recording else R.drawable.action)
        button.setTextColor(button.context.getColorStateList(if (recording) R.color.recording_text else R.color.action_text))
        level.levelDb = host.state.levelDb
    }

    private fun toggle() {
        if (host.state.recording == null) host.record(purpose) else host.state.stopRecording()
    }

    @SuppressLint("ClickableViewAccessibility") // clicks are handled by toggle()
    private fun touched(view: View, event: MotionEvent): Boolean {
        when (event.actionMasked) {
            MotionEvent.ACTION_DOWN -> {
                held = true
                view.parent.requestDisallowInterceptTouchEvent(true)
                if (host.state.recording == null) host.record(purpose)
            }
            MotionEvent.ACTION_UP, MotionEvent.ACTION_CANCEL -> {
                if (held) host.state.stopRecording()
                held = false
            }
        }
        return true
    }
}

class TranscribeScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.transcribe, parent) {
    private val talk = TalkButton(host, view.findViewById(R.id.talk), Purpose.TRANSCRIBE)
    private val pick = button(R.id.pick) { host.pickRecording(Purpose.TRANSCRIBE) }

    override fun render() {
        talk.render(view.findViewById(R.id.level))
        pick.isEnabled = !state.isBusy && state.recording == null
        label(R.id.text).text = state.text
        label(R.id.details).text = state.details
    }
}

class KeywordsScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.keywords, parent) {
    private val listen = button(R.id.listen) {
        if (state.recording == null) host.record(Purpose.KEYWORDS) else state.stopRecording()
    }

    override fun render() {
        val listening = state.recording?.purpose == Purpose.KEYWORDS
        listen.setText(if (listening) R.string.keywords_stop else R.string.keywords_start)
        listen.isEnabled = listening || (!state.isBusy && state.recording == null)
        view.findViewById<LevelView>(R.id.level).levelDb = state.levelDb
        val known = string(R.string.keywords_known, state.labels.joinToString())
        label(R.id.known).text = when {
            state.labels.isNotEmpty() -> known + "\n" + string(R.string.keywords_hint)
            state.manifest != null -> string(R.string.not_a_keyword_model)
            else -> string(R.string.keywords_hint)
        }
        show(
            R.id.found,
            state.found.joinToString("\n") { (word, score) -> string(R.string.keyword_score, word, (100 * score).toInt()) },
        )
    }
}

class CompareScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.compare, parent) {
    private val talk = TalkButton(host, view.findViewById(R.id.talk), Purpose.COMPARE)
    private val pick = button(R.id.pick) { host.pickRecording(Purpose.COMPARE) }
    private val first: Spinner = view.findViewById(R.id.first)
    private val second: Spinner = view.findViewById(R.id.second)
    private val run = button(R.id.run) {
        state.compare(listOf(first, second).map { state.bundles[it.selectedItemPosition] })
    }

    override fun render() {
        talk.render(view.findViewById(R.id.level))
        showFiles(first, state.bundles, null)
        if (showFiles(second, state.bundles, null) && state.bundles.size > 1) second.setSelection(1)
        val last = state.last
        pick.isEnabled = !state.isBusy && state.recording == null
        run.isEnabled = pick.isEnabled && state.bundles.size > 1 && last != null
        label(R.id.details).text = when {
            state.bundles.size < 2 -> string(R.string.needs_two_models)
            last == null -> string(R.string.needs_recording)
            else -> string(R.string.recording_ready, last.size.toDouble() / PhoneMicrophone.RATE)
        }
        for ((index, id) in listOf(R.id.first_result, R.id.second_result).withIndex()) {
            val heard = state.compared.getOrNull(index)
            val text = if (heard == null) "" else string(
                R.string.compare_result,
                heard.text.ifEmpty { string(R.string.heard_nothing) },
                heard.seconds,
                number((heard.bytes + 1023) / 1024),
            )
            show(id, text)
        }
    }
}

class BenchmarkScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.benchmark, parent) {
    private val threads: EditText = view.findViewById(R.id.threads)
    private val run = button(R.id.run) { state.benchmark(threads.text.toString().toIntOrNull() ?: 0) }
    private val export = button(R.id.export, host::saveFigures)

    override fun render() {
        run.isEnabled = !state.isBusy && state.recording == null && state.selected != null
        val figures = state.figures
        export.isEnabled = figures != null && !state.isBusy
        val text = if (figures == null) "" else string(
            R.string.benchmark_result,
            figures.loadMs,
            figures.rtf,
            Benchmark.median(figures.latencyMs),
            figures.peakRssMb?.let { number(it.toLong()) } ?: string(R.string.unknown),
            if (figures.threads == 0) string(R.string.automatic) else figures.threads.toString(),
        )
        show(R.id.result, text)
    }
}

class ClipsScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.clips, parent) {
    private val talk = TalkButton(host, view.findViewById(R.id.talk), Purpose.CLIP)
    private val export = button(R.id.export, host::saveClips)
    private val list: LinearLayout = view.findViewById(R.id.list)
    private var shown: List<File> = emptyList()

    init {
        label(R.id.hint).text = string(R.string.clips_hint, CalibrationClips.MOST)
    }

    override fun render() {
        talk.render(view.findViewById(R.id.level))
        val clips = state.clips.list()
        label(R.id.count).text = string(R.string.clips_count, clips.size, CalibrationClips.MOST)
        export.isEnabled = clips.isNotEmpty() && !state.isBusy
        if (clips == shown) return
        shown = clips
        list.removeAllViews()
        clips.forEach(::addRow)
    }

    private fun addRow(clip: File) {
        val row = LayoutInflater.from(view.context).inflate(R.layout.clip, list, false)
        row.findViewById<TextView>(R.id.name).text = string(R.string.clip, clip.name, state.clips.seconds(clip))
        val remove: ImageButton = row.findViewById(R.id.remove)
        remove.contentDescription = string(R.string.clip_remove, clip.name)
        remove.setOnClickListener {
            state.clips.remove(clip)
            render()
        }
        list.addView(row)
    }
}

class AboutScreen(host: Host, parent: ViewGroup) : Screen(host, R.layout.about, parent) {
    private val selftest = button(R.id.selftest) { state.selftest() }
    private val remove = button(R.id.remove) { state.removeSelected() }

    override fun render() {
        val bundle = state.manifest
        selftest.isEnabled = bundle?.manifest?.golden != null && !state.isBusy
        remove.isEnabled = state.selected != null && !state.isBusy && state.recording == null
        label(R.id.manifest).text = if (bundle == null) string(R.string.no_model) else printable(describe(bundle))
        show(R.id.checked, state.checked)
        label(R.id.licences).text = string(R.string.about_licences_text, Session.version)
    }

    private fun describe(bundle: mqruntime.Bundle): String {
        val manifest = bundle.manifest
        val none = string(R.string.about_none)
        return listOf(
            bundle.path.name,
            string(R.string.about_family, manifest.model.family, manifest.model.task),
            string(R.string.about_bytes, number(manifest.modelBytes)),
            manifest.budgetBytes?.let { string(R.string.about_budget, number(it)) } ?: string(R.string.about_no_budget),
            string(if (bundle.signed) R.string.about_signed else R.string.about_unsigned),
            string(R.string.about_source, manifest.model.source.entries.joinToString { "${it.key} ${it.value}" }),
            string(R.string.about_tool, manifest.tool),
            string(R.string.about_hashes, manifest.planSha256 ?: none, manifest.calibrationSha256 ?: none),
        ).joinToString("\n")
    }
}

/** Show files in a spinner; whether its list was another one before. */
internal fun showFiles(spinner: Spinner, files: List<File>, selected: File?): Boolean {
    val names = files.map { it.name }
    val isNew = spinner.tag != names
    if (isNew) {
        spinner.tag = names
        val adapter = ArrayAdapter(spinner.context, android.R.layout.simple_spinner_item, names)
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        spinner.adapter = adapter
    }
    val index = files.indexOf(selected)
    if (index >= 0 && index != spinner.selectedItemPosition) spinner.setSelection(index)
    return isNew
}

/** Calls back when a person or the program selects another item. */
internal class Selected(private val action: (Int) -> Unit) : AdapterView.OnItemSelectedListener {
    override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = action(position)

    override fun onNothingSelected(parent: AdapterView<*>?) = Unit
}
