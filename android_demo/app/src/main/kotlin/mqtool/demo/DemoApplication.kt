package mqtool.demo

import android.app.Application
import android.content.ComponentCallbacks2

/** The process. It outlives its activities, so a rotation stops neither recording nor recognition. */
class DemoApplication : Application() {
    val state: DemoState by lazy { DemoState(this) }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) state.models.close()
    }
}
