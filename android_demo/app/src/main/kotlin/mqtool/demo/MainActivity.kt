package mqtool.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Rect
import android.net.Uri
import android.os.Bundle
import android.provider.OpenableColumns
import android.provider.Settings
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.ProgressBar
import android.widget.RadioGroup
import android.widget.Spinner
import android.widget.TextView
import java.io.FileNotFoundException

/** The only activity: tabs, the model in use, one line of status, and the tab's screen. */
class MainActivity : Activity(), Host {
    override val state: DemoState get() = (application as DemoApplication).state
    private lateinit var tabs: RadioGroup
    private lateinit var holder: ViewGroup
    private lateinit var models: Spinner
    private lateinit var screen: Screen
    private var waiting = Purpose.TRANSCRIBE // for a permission or a file

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        tabs = findViewById(R.id.tabs)
        holder = findViewById(R.id.screen)
        models = findViewById(R.id.model)
        models.onItemSelectedListener = Selected { state.select(state.bundles.getOrNull(it)) }
        findViewById<View>(R.id.add_model).setOnClickListener { open(PICK_BUNDLE, "*/*") }
        if (saved != null) {
            waiting = Purpose.values()[saved.getInt(WAITING)]
            state.restore(saved.getString(MODEL), saved.getString(TEXT).orEmpty(), saved.getString(DETAILS).orEmpty())
        }
        tabs.check(saved?.getInt(TAB) ?: R.id.tab_transcribe)
        show(tabs.checkedRadioButtonId)
        tabs.setOnCheckedChangeListener { _, id ->
            state.stopRecording()
            show(id)
        }
        if (saved == null) state.importPresent()
    }

    override fun onStart() {
        super.onStart()
        state.observer = ::render
        render()
    }

    override fun onStop() {
        super.onStop()
        state.observer = null
        if (!isChangingConfigurations) state.interrupt()
    }

    override fun onSaveInstanceState(saved: Bundle) {
        super.onSaveInstanceState(saved)
        saved.putInt(TAB, tabs.checkedRadioButtonId)
        saved.putInt(WAITING, waiting.ordinal)
        saved.putString(MODEL, state.selected?.name)
        saved.putString(TEXT, state.text)
        saved.putString(DETAILS, state.details)
    }

    override fun record(purpose: Purpose) {
        if (checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED) {
            state.startRecording(purpose)
        } else {
            requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), 0)
        }
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        val refused = results.any { it != PackageManager.PERMISSION_GRANTED }
        if (refused) state.say(getString(R.string.error_permission))
        val forGood = refused && !shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO)
        offer(if (forGood) R.string.error_permission_settings else null) {
            startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null)))
        }
    }

    override fun pickRecording(purpose: Purpose) {
        waiting = purpose
        open(PICK_RECORDING, "audio/*")
    }

    override fun saveClips() = create(SAVE_CLIPS, "application/zip", "clips.zip")

    override fun saveFigures() = create(SAVE_FIGURES, "application/json", "benchmark.json")

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (result != RESULT_OK || uri == null) return
        val (name, length) = describe(uri)
        when (code) {
            PICK_BUNDLE -> state.import(name, length) { openInput(uri) }
            PICK_RECORDING -> state.openRecording(name, waiting) { openInput(uri) }
            SAVE_CLIPS -> state.exportClips { openOutput(uri) }
            SAVE_FIGURES -> state.exportFigures { openOutput(uri) }
        }
    }

    private fun openInput(uri: Uri) = application.contentResolver.openInputStream(uri) ?: throw FileNotFoundException("$uri")

    private fun openOutput(uri: Uri) = application.contentResolver.openOutputStream(uri, "wt") ?: throw FileNotFoundException("$uri")

    /** A document's name and length, if it says. */
    private fun describe(uri: Uri): Pair<String, Long?> {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        contentResolver.query(uri, columns, null, null, null)?.use { row ->
            if (row.moveToFirst()) {
                val name = row.getString(0) ?: uri.lastPathSegment.orEmpty()
                return name to if (row.isNull(1)) null else row.getLong(1)
            }
        }
        return uri.lastPathSegment.orEmpty() to null
    }

    private fun open(code: Int, type: String) = startActivityForResult(
        Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type), code,
    )

    private fun create(code: Int, type: String, name: String) = startActivityForResult(
        Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type)
            .putExtra(Intent.EXTRA_TITLE, name),
        code,
    )

    private fun show(tab: Int) {
        screen = when (tab) {
            R.id.tab_keywords -> KeywordsScreen(this, holder)
            R.id.tab_compare -> CompareScreen(this, holder)
            R.id.tab_benchmark -> BenchmarkScreen(this, holder)
            R.id.tab_clips -> ClipsScreen(this, holder)
            R.id.tab_about -> AboutScreen(this, holder)
            else -> TranscribeScreen(this, holder)
        }
        holder.removeAllViews()
        holder.addView(screen.view)
        render()
        val button: View = tabs.findViewById(tab)
        button.post { button.requestRectangleOnScreen(Rect(0, 0, button.width, button.height), true) }
    }

    private fun render() {
        showFiles(models, state.bundles, state.selected)
        models.isEnabled = !state.isBusy && state.recording == null
        findViewById<View>(R.id.model_row).visibility = visible(state.bundles.isNotEmpty())
        findViewById<View>(R.id.no_model).visibility = visible(state.bundles.isEmpty())
        findViewById<View>(R.id.add_model).isEnabled = models.isEnabled
        val status: TextView = findViewById(R.id.status)
        status.text = state.status
        status.visibility = visible(state.status != null)
        val progress: ProgressBar = findViewById(R.id.progress)
        progress.visibility = visible(state.isBusy)
        progress.isIndeterminate = state.progress == null
        state.progress?.let(progress::setProgress)
        if (state.isBusy) offer(R.string.cancel, state::cancel) else hideOfferOfCancel()
        screen.render()
    }

    /** Show a button under the status, or none. */
    private fun offer(label: Int?, action: () -> Unit) {
        val button: Button = findViewById(R.id.status_action)
        button.visibility = visible(label != null)
        button.tag = label
        if (label != null) button.setText(label)
        button.setOnClickListener { action() }
    }

    private fun hideOfferOfCancel() {
        if (findViewById<Button>(R.id.status_action).tag == R.string.cancel) offer(null) {}
    }

    private fun visible(shown: Boolean) = if (shown) View.VISIBLE else View.GONE

    private companion object {
        const val PICK_BUNDLE = 1
        const val PICK_RECORDING = 2
        const val SAVE_CLIPS = 3
        const val SAVE_FIGURES = 4
        const val TAB = "tab"
        const val MODEL = "model"
        const val TEXT = "text"
        const val DETAILS = "details"
        const val WAITING = "waiting"
    }
}
