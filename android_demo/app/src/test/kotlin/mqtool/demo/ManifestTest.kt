package mqtool.demo

import android.content.pm.ApplicationInfo
import android.content.pm.PackageManager
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RuntimeEnvironment

/** What is said stays on the phone. */
@RunWith(DemoRunner::class)
class ManifestTest {
    private val application = RuntimeEnvironment.getApplication()
    private val everything = PackageManager.GET_PERMISSIONS or PackageManager.GET_PROVIDERS or
        PackageManager.GET_SERVICES or PackageManager.GET_RECEIVERS or PackageManager.GET_ACTIVITIES
    private val installed = application.packageManager.getPackageInfo(
        application.packageName, PackageManager.PackageInfoFlags.of(everything.toLong()),
    )

    @Test
    fun theMicrophoneIsTheOnlyPermission() {
        assertEquals(listOf(android.Manifest.permission.RECORD_AUDIO), installed.requestedPermissions.toList())
    }

    @Test
    fun nothingButTheActivityRuns() {
        assertEquals(listOf("mqtool.demo.MainActivity"), installed.activities.map { it.name })
        assertNull(installed.providers)
        assertNull(installed.services)
        assertNull(installed.receivers)
    }

    @Test
    fun thereAreNoBackups() {
        assertEquals(0, application.applicationInfo.flags and ApplicationInfo.FLAG_ALLOW_BACKUP)
    }
}
