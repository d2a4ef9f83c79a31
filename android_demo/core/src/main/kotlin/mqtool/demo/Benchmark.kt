package mqtool.demo

import com.google.gson.stream.JsonWriter
import mqruntime.Bundle
import mqruntime.Recognizer
import mqruntime.Session
import java.io.File
import java.io.StringWriter
import java.util.concurrent.atomic.AtomicBoolean

/**
 * Figures of a bundle on this device; fields as in `mqtool bench --json`.
 *
 * @property loadMs opening and checking the bundle, and creating its sessions.
 * @property rtf real-time factor, the median run: seconds of work per second of audio.
 * @property latencyMs median, fastest and slowest run.
 * @property peakRssMb the process's highest resident memory so far; null where the system does not say.
 */
data class Figures(
    val bundle: String,
    val bytes: Long,
    val modelBytes: Long,
    val task: String,
    val device: String,
    val onnxruntime: String,
    val threads: Int,
    val secondsAudio: Double,
    val loadMs: Double,
    val rtf: Double,
    val latencyMs: List<Double>,
    val peakRssMb: Double?,
) {
    /** As JSON text. */
    fun toJson(): String {
        val text = StringWriter()
        val json = JsonWriter(text)
        json.setIndent("  ")
        json.beginObject()
        json.name("bundle").value(bundle).name("bytes").value(bytes).name("model_bytes").value(modelBytes)
        json.name("task").value(task).name("device").value(device).name("onnxruntime").value(onnxruntime)
        json.name("provider").value("CPUExecutionProvider").name("threads").value(threads)
        json.name("seconds_audio").value(secondsAudio).name("load_ms").value(loadMs).name("rtf").value(rtf)
        json.name("latency_ms").value(Benchmark.median(latencyMs))
        json.name("fastest_ms").value(latencyMs.min()).name("slowest_ms").value(latencyMs.max())
        json.name("runs").value(latencyMs.size.toLong()).name("peak_rss_mb")
        if (peakRssMb == null) json.nullValue() else json.value(peakRssMb)
        json.endObject()
        return text.toString() + "\n"
    }
}

/** Measures a bundle. */
object Benchmark {
    /**
     * Load a bundle and run a recording several times; one run before them, which allocates, is not
     * counted.
     *
     * @param pcm at 16 kHz.
     * @param threads threads inside an operator; 0 lets onnxruntime choose.
     * @param device what to call this device.
     * @param cancel as of [Recognizer.transcribe].
     * @param onRun called before each run and as it goes on, with its number from 0; may throw to stop.
     */
    fun run(
        file: File,
        pcm: FloatArray,
        threads: Int,
        runs: Int,
        device: String,
        cancel: AtomicBoolean? = null,
        onRun: (Int) -> Unit = {},
    ): Figures {
        val start = System.nanoTime()
        val bundle = Bundle.open(file)
        Recognizer.openBundle(bundle, threads).use { recognizer ->
            val loadMs = (System.nanoTime() - start) / 1e6
            val times = (0..runs).map { run ->
                onRun(run)
                val before = System.nanoTime()
                recognizer.transcribe(pcm, cancel = cancel) { onRun(run) }
                (System.nanoTime() - before) / 1e6
            }.drop(1)
            val seconds = pcm.size.toDouble() / recognizer.manifest.sampleRate
            return Figures(
                file.name, file.length(), bundle.manifest.modelBytes, recognizer.manifest.task, device,
                Session.version, threads, seconds, loadMs, median(times) / 1000 / seconds, times, peakRssMb(),
            )
        }
    }

    /** The middle value, or the mean of the two in the middle. */
    fun median(values: List<Double>): Double {
        val sorted = values.sorted()
        return (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
    }

    /** The highest resident memory of this process so far, in MB of 10^6 bytes; see proc(5), VmHWM. */
    fun peakRssMb(status: File = File("/proc/self/status")): Double? = try {
        status.readLines().firstOrNull { it.startsWith("VmHWM:") }
            ?.let { line -> line.filter(Char::isDigit).toLong() * 1024 / 1e6 }
    } catch (error: java.io.IOException) {
        null
    }
}
