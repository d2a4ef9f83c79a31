package mqruntime

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.PI
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin
import kotlin.math.sqrt

/**
 * Read and write WAV files.
 *
 * Format: RIFF ("Multimedia Programming Interface and Data Specifications 1.0", 1991), chunks `fmt `
 * and `data`; WAVE_FORMAT_EXTENSIBLE carries the real format in the first two bytes of its GUID.
 *
 * Resampling is by windowed sinc (Kaiser, 32 zero crossings), one filter per output phase; what it
 * keeps and removes is written in `mqruntime/audio.py`, which computes the same in double precision.
 */
object Wav {
    /** A file's samples by channel, in [-1, 1], and its rate in Hz. */
    class Content(val channels: List<FloatArray>, val rate: Int) {
        /** The mean of the channels. */
        fun mono(): FloatArray = FloatArray(channels[0].size) { i ->
            var sum = 0f
            for (channel in channels) sum += channel[i]
            sum / channels.size
        }
    }

    private const val PCM = 1
    private const val FLOAT = 3
    private const val EXTENSIBLE = 0xFFFE
    private const val ZERO_CROSSINGS = 32
    private const val ROLLOFF = 0.945 // of the Nyquist frequency: where the filter has fallen to a half
    private const val BETA = 9.0
    private const val UNKNOWN_LENGTH = 0xFFFFFF00L

    /**
     * Read a WAV file as mono samples at `rate` Hz; channels are averaged.
     *
     * @throws AudioError see [read].
     */
    fun load(path: File, rate: Int = 16000): FloatArray {
        val content = read(path)
        return resample(content.mono(), content.rate, rate)
    }

    /**
     * Read a WAV file.
     *
     * @throws AudioError missing, or see [parse].
     */
    fun read(path: File): Content {
        val bytes = try {
            path.readBytes()
        } catch (error: IOException) {
            throw AudioError("$path: cannot be read (${firstLine(error)})")
        }
        return parse(bytes, path.toString())
    }

    /**
     * Read the bytes of a WAV file.
     *
     * Samples may be 8-, 16-, 24- or 32-bit integers or 32- or 64-bit floats.
     *
     * @param content the file.
     * @param path what to call it in errors.
     * @throws AudioError not WAV, truncated, empty, a compressed format, or NaN or infinite samples.
     */
    fun parse(content: ByteArray, path: String): Content {
        if (content.size < 12 || text(content, 0) != "RIFF" || text(content, 8) != "WAVE") {
            throw AudioError("$path: is not a WAV file; convert the recording to WAV")
        }
        val chunks = chunks(path, content)
        val format = chunks["fmt "]
        val data = chunks["data"]
        if (format == null || data == null || format.remaining() < 16) {
            throw AudioError("$path: has no format or no data chunk; record it again")
        }
        var kind = format.getShort(0).toInt() and 0xFFFF
        val channels = format.getShort(2).toInt() and 0xFFFF
        val rate = format.getInt(4).toLong() and 0xFFFFFFFFL
        val align = format.getShort(12).toInt() and 0xFFFF
        val bits = format.getShort(14).toInt() and 0xFFFF
        if (kind == EXTENSIBLE && format.remaining() >= 26) kind = format.getShort(24).toInt() and 0xFFFF
        if (channels == 0 || rate !in 1000..192_000 || align * 8 != channels * bits) {
            throw AudioError("$path: $channels channels of $bits bits at $rate Hz make no sense")
        }
        val sample = sampleReader(path, kind, bits, data)
        val frames = if (align == 0) 0 else data.remaining() / align
        if (frames == 0) throw AudioError("$path: holds no samples; give a recording that is not empty")
        val samples = List(channels) { channel ->
            FloatArray(frames) { sample(it * align + channel * bits / 8) }
        }
        if (samples.any { channel -> channel.any { !it.isFinite() } }) {
            throw AudioError("$path: holds NaN or infinite samples; repair the recording")
        }
        return Content(samples, rate.toInt())
    }

    /**
     * Change the rate of mono PCM: ceil(samples * rate / sourceRate) samples.
     *
     * With both rates divided by their greatest common divisor, to `up` and `down`, output n lies at
     * input position n * down / up: one of `up` phases, each with its own filter of input samples.
     */
    fun resample(pcm: FloatArray, sourceRate: Int, rate: Int): FloatArray {
        if (sourceRate == rate) return pcm
        val divisor = greatestCommonDivisor(sourceRate, rate)
        val up = rate / divisor
        val down = sourceRate / divisor
        val cutoff = ROLLOFF * min(1.0, up.toDouble() / down)
        val filters = HashMap<Int, DoubleArray>()
        val length = ((pcm.size.toLong() * up + down - 1) / down).toInt()
        return FloatArray(length) { n ->
            val position = n.toLong() * down
            val phase = (position % up).toInt()
            val taps = filters.getOrPut(phase) { filter(phase.toDouble() / up, cutoff) }
            val first = (position / up).toInt() - taps.size / 2 + 1
            var sum = 0.0
            for (t in max(0, -first) until min(taps.size, pcm.size - first)) sum += pcm[first + t] * taps[t]
            sum.toFloat()
        }
    }

    /** The bytes of a WAV file of 16-bit mono PCM; samples outside [-1, 1] are clipped. */
    fun bytes(pcm: FloatArray, rate: Int = 16000): ByteArray {
        val buffer = ByteBuffer.allocate(44 + 2 * pcm.size).order(ByteOrder.LITTLE_ENDIAN)
        buffer.put("RIFF".toByteArray()).putInt(36 + 2 * pcm.size).put("WAVEfmt ".toByteArray())
        buffer.putInt(16).putShort(1).putShort(1).putInt(rate).putInt(2 * rate).putShort(2).putShort(16)
        buffer.put("data".toByteArray()).putInt(2 * pcm.size)
        for (sample in pcm) buffer.putShort(Math.rint(sample * 32768.0).coerceIn(-32768.0, 32767.0).toInt().toShort())
        return buffer.array()
    }

    /** A filter of sum 1; tap t lies t - reach + 1 - phase samples off. */
    private fun filter(phase: Double, cutoff: Double): DoubleArray {
        val reach = ceil(ZERO_CROSSINGS / cutoff).toInt()
        val taps = DoubleArray(2 * reach) {
            val offset = it - reach + 1 - phase
            val inside = max(0.0, 1 - (offset * cutoff / ZERO_CROSSINGS).let { x -> x * x })
            sinc(offset * cutoff) * besselI0(BETA * sqrt(inside))
        }
        val sum = taps.sum()
        return DoubleArray(taps.size) { taps[it] / sum }
    }

    private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(PI * x) / (PI * x)

    /** Modified Bessel function of the first kind, order 0: Abramowitz and Stegun, 9.6.12. */
    private fun besselI0(x: Double): Double {
        var term = 1.0
        var sum = 1.0
        var k = 1
        while (term > sum * 1e-17) {
            term *= (x / (2 * k)) * (x / (2 * k))
            sum += term
            k += 1
        }
        return sum
    }

    private tailrec fun greatestCommonDivisor(a: Int, b: Int): Int = if (b == 0) a else greatestCommonDivisor(b, a % b)

    /** The file's chunks by id, first of each; streamed files may give the data's length as ~0. */
    private fun chunks(path: String, content: ByteArray): Map<String, ByteBuffer> {
        val chunks = HashMap<String, ByteBuffer>()
        val whole = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
        var position = 12L
        while (position + 8 <= content.size) {
            val at = position.toInt()
            val name = text(content, at)
            val length = whole.getInt(at + 4).toLong() and 0xFFFFFFFFL
            val there = min(length, content.size - position - 8)
            if (there < length && !(name == "data" && length >= UNKNOWN_LENGTH)) {
                throw AudioError("$path: is cut off, ${name.trim()} chunk has $there of $length bytes; copy it again")
            }
            if (name !in chunks) {
                chunks[name] = ByteBuffer.wrap(content, at + 8, there.toInt()).slice().order(ByteOrder.LITTLE_ENDIAN)
            }
            position += 8 + length + length % 2
        }
        return chunks
    }

    private fun text(content: ByteArray, at: Int) = String(content, at, 4, Charsets.ISO_8859_1)

    private fun sampleReader(path: String, kind: Int, bits: Int, data: ByteBuffer): (Int) -> Float = when {
        kind == PCM && bits == 8 -> { at -> ((data.get(at).toInt() and 0xFF) - 128) / 128f }
        kind == PCM && bits == 16 -> { at -> data.getShort(at) / 32768f }
        kind == PCM && bits == 24 -> { at ->
            val low = data.getShort(at).toInt() and 0xFFFF
            ((data.get(at + 2).toInt() shl 16) or low) / 8388608f
        }
        kind == PCM && bits == 32 -> { at -> (data.getInt(at) / 2147483648.0).toFloat() }
        kind == FLOAT && bits == 32 -> { at -> data.getFloat(at) }
        kind == FLOAT && bits == 64 -> { at -> data.getDouble(at).toFloat() }
        else -> throw AudioError(
            "$path: WAV format $kind with $bits bits is not supported; convert it to 16-bit PCM",
        )
    }
}
