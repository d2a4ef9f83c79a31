package mqtool.demo

import android.Manifest
import android.app.Application
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import org.json.JSONObject
import org.junit.Assert.fail
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.File

/** The app under test, with a microphone that says what the test wants. */
class Demo(start: Boolean = true) {
    val application: DemoApplication get() = RuntimeEnvironment.getApplication() as DemoApplication
    val state: DemoState get() = application.state
    val microphone = FakeMicrophone()
    lateinit var controller: ActivityController<MainActivity>
    val activity: MainActivity get() = controller.get()

    init {
        state.microphone = microphone
        if (start) start()
    }

    fun start() {
        controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        idle()
    }

    fun allowRecording() = shadowOf(application as Application).grantPermissions(Manifest.permission.RECORD_AUDIO)

    fun import(name: String) {
        val file = bundle(name)
        state.import(file.name, file.length()) { file.inputStream() }
        idle()
    }

    fun show(tab: Int) {
        activity.findViewById<View>(tab).performClick()
        idle()
    }

    fun click(id: Int) {
        val view: View = activity.findViewById(id)
        if (!view.isEnabled) fail("${view.resources.getResourceEntryName(id)} is disabled")
        view.performClick()
        idle()
    }

    fun text(id: Int): String = activity.findViewById<TextView>(id).text.toString()

    fun string(id: Int, vararg arguments: Any): String = application.getString(id, *arguments)

    /** Until no work is left. */
    fun idle() {
        val end = System.nanoTime() + 60_000_000_000
        shadowOf(Looper.getMainLooper()).idle()
        while (state.isBusy) {
            if (System.nanoTime() > end) fail("still busy: ${state.status}")
            Thread.sleep(2)
            shadowOf(Looper.getMainLooper()).idle()
        }
        shadowOf(Looper.getMainLooper()).idle()
    }

    companion object {
        private val folder = File(System.getProperty("mqtool.test.bundles"))

        fun bundle(name: String) = File(folder, "$name.mqz").also { check(it.isFile) { "$it: run make_test_bundles.py" } }

        /** What Python heard first with a bundle. */
        fun heard(name: String, number: Int = 0): JSONObject = JSONObject(File(folder, "expected.json").readText())
            .getJSONObject("bundles").getJSONObject(name).getJSONArray("heard").getJSONObject(number)

        fun clip(name: String) = File(folder, "clips/$name")

        fun all(view: View): List<View> =
            listOf(view) + if (view is ViewGroup) (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else emptyList()
    }
}

class FakeMicrophone : Microphone {
    private var onChunk: ((FloatArray) -> Unit)? = null
    private var onFailure: ((Microphone.Failure) -> Unit)? = null
    val isOn: Boolean get() = onChunk != null

    override fun start(onChunk: (FloatArray) -> Unit, onFailure: (Microphone.Failure) -> Unit) {
        this.onChunk = onChunk
        this.onFailure = onFailure
    }

    override fun stop() {
        onChunk = null
        onFailure = null
    }

    fun say(pcm: FloatArray) {
        for (start in pcm.indices step 1600) onChunk!!(pcm.copyOfRange(start, minOf(start + 1600, pcm.size)))
        shadowOf(Looper.getMainLooper()).idle()
    }

    fun fail(failure: Microphone.Failure) {
        onFailure!!(failure)
        shadowOf(Looper.getMainLooper()).idle()
    }
}
