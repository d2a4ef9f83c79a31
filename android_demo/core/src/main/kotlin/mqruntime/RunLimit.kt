package mqruntime

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtSession
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/**
 * Stops runs of graphs until it is closed: one that is cancelled or takes too long ends between two of its
 * nodes.
 *
 * @param cancel set by another thread to stop them.
 * @param seconds most that one run may take; null for as long as it takes.
 */
internal class RunLimit(private val cancel: AtomicBoolean?, private val seconds: Double?) : AutoCloseable {
    private val options = OrtSession.RunOptions()
    private val done = CountDownLatch(1)

    @Volatile private var began: Long? = null

    @Volatile private var isLate = false

    init {
        if (cancel != null || seconds != null) {
            Thread(::watch, "mqruntime-run-limit").apply { isDaemon = true }.start()
        }
    }

    /** The same graphs, whose runs it stops. */
    fun graphs(graphs: Map<String, Graph>): Map<String, Graph> = graphs.mapValues { (_, graph) -> Limited(graph) }

    private inner class Limited(private val graph: Graph) : Graph {
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            checkCancelled()
            if (graph !is Session) return graph.run(feeds)
            began = System.nanoTime()
            try {
                return graph.run(feeds, options)
            } catch (error: ModelError) {
                checkCancelled()
                if (!isLate) throw error
                throw ModelError(
                    "${graph.path}: one run takes more than ${text(seconds!!)} s and was stopped; do not use the " +
                        "model, or allow more with runSeconds",
                    error,
                )
            } finally {
                began = null
            }
        }
    }

    private fun checkCancelled() {
        if (cancel != null && cancel.get()) throw CancelledError("recognition was cancelled")
    }

    private fun watch() {
        while (!done.await(LOOK_MILLISECONDS, TimeUnit.MILLISECONDS)) {
            val since = began
            isLate = seconds != null && since != null && System.nanoTime() - since > seconds * 1e9
            if (isLate || cancel != null && cancel.get()) return terminate()
        }
    }

    @Synchronized
    private fun terminate() {
        if (done.count > 0) options.setTerminate(true)
    }

    @Synchronized
    override fun close() {
        done.countDown()
        options.close()
    }

    companion object {
        /** Most that one run of a stranger's graph may take: ten times the recording that it is given. */
        const val RUN_SECONDS = 300.0
        private const val LOOK_MILLISECONDS = 50L

        private fun text(seconds: Double) = seconds.toString().removeSuffix(".0")
    }
}
