package mqtool.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

/**
 * Draws the screens to PNG files with Robolectric's native graphics, which is Android's own renderer
 * built for the desktop:
 *
 *     mvn -f android_demo/pom.xml verify -Dmqtool.screenshots=android_demo/screenshots
 */
@RunWith(DemoRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenshotsTest {
    private val folder = System.getProperty("mqtool.screenshots")?.takeIf { it.isNotEmpty() && '$' !in it }

    @Before
    fun onlyWhenAsked() = assumeTrue("no -Dmqtool.screenshots", folder != null)

    @Test
    @Config(qualifiers = "w393dp-h760dp-xhdpi")
    fun transcript() {
        val demo = demo("whisper-tiny.en")
        demo.state.openRecording("05.wav", Purpose.TRANSCRIBE) { Demo.clip("05.wav").inputStream() }
        demo.idle()
        draw(demo, "transcribe")
    }

    @Test
    @Config(qualifiers = "w393dp-h760dp-night-xhdpi")
    fun transcriptByNight() {
        val demo = demo("whisper-tiny.en")
        demo.state.openRecording("11.wav", Purpose.TRANSCRIBE) { Demo.clip("11.wav").inputStream() }
        demo.idle()
        draw(demo, "transcribe-night")
    }

    @Test
    @Config(qualifiers = "w393dp-h760dp-xhdpi")
    fun aboutAndClips() {
        val demo = demo("whisper-tiny.en")
        demo.allowRecording()
        demo.show(R.id.tab_clips)
        demo.click(R.id.talk)
        demo.microphone.say(FloatArray(32000) { 0.1f * kotlin.math.sin(it * 0.1f) })
        draw(demo, "clips-recording")
        demo.click(R.id.talk)
        demo.show(R.id.tab_about)
        demo.click(R.id.selftest)
        draw(demo, "about")
    }

    @Test
    @Config(qualifiers = "w760dp-h393dp-land-xhdpi")
    fun benchmarkInLandscape() {
        val demo = demo("toy-ctc")
        demo.show(R.id.tab_benchmark)
        demo.click(R.id.run)
        draw(demo, "benchmark-landscape")
    }

    private fun demo(vararg bundles: String): Demo {
        RuntimeEnvironment.setFontScale(1f)
        val demo = Demo()
        bundles.forEach(demo::import)
        demo.state.say(null)
        return demo
    }

    private fun draw(demo: Demo, name: String) {
        demo.idle()
        val view = demo.activity.window.decorView
        val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        File(folder!!).mkdirs()
        File(folder, "$name.png").outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }
}
