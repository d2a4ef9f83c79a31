package mqtool.demo

import android.widget.Button
import android.widget.ImageButton
import android.widget.Spinner
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config

/** Every screen, light and dark, portrait and landscape, with large text. */
@RunWith(DemoRunner::class)
class ScreensTest {
    private val tabs = listOf(
        R.id.tab_transcribe, R.id.tab_keywords, R.id.tab_compare, R.id.tab_benchmark, R.id.tab_clips, R.id.tab_about,
    )

    private companion object {
        const val OWN_RESOURCES = 0x7f
    }

    @Test
    fun inPortraitByDay() = check()

    @Test
    @Config(qualifiers = "w320dp-h480dp-night")
    fun onASmallPhoneByNight() = check()

    @Test
    @Config(qualifiers = "land")
    fun inLandscapeWithLargeText() {
        RuntimeEnvironment.setFontScale(2f)
        check()
    }

    private fun check() {
        val demo = Demo()
        demo.import("toy-keywords")
        demo.allowRecording()
        demo.show(R.id.tab_clips)
        demo.click(R.id.talk)
        demo.microphone.say(FloatArray(16000) { 0.1f })
        demo.click(R.id.talk)
        val density = demo.activity.resources.displayMetrics.density
        for (tab in tabs) {
            demo.show(tab)
            val root = demo.activity.window.decorView
            val shown = Demo.all(root).filter { it.isShown && it.id ushr 24 == OWN_RESOURCES }
            for (view in shown) {
                val name = view.resources.getResourceName(view.id)
                if (view is ImageButton || view is LevelView || view is Spinner) {
                    assertFalse("$name has no label", view.contentDescription.isNullOrEmpty())
                }
                if (view is Button || view is ImageButton || view is Spinner) {
                    assertTrue("$name is ${view.height / density} dp high", view.height >= 48 * density - 1)
                    assertTrue("$name is cut off", view.width <= root.width || view is android.widget.RadioButton)
                }
            }
        }
    }
}
