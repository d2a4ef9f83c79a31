package androidx.test.runner.lifecycle;

import android.app.Activity;

/** Stands in for the class of androidx.test; see README.md. */
public interface ActivityLifecycleCallback {
    void onActivityLifecycleChanged(Activity activity, Stage stage);
}
