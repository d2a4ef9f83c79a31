package mqruntime

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.PI
import kotlin.math.abs
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
 * What follows the data is not read. A data chunk whose length nobody knew when it was begun, as pipes
 * write it, goes to the end of the file (`mqruntime/audio.py` says how it is told).
 *
 * Channels are mixed as `mqruntime/mono.py` describes, and resampled as `mqruntime/resampling.py` does:
 * the same samples.
 */
object Wav {
    /** A file's samples by channel, in [-1, 1], and its rate in Hz. */
    class Content(val channels: List<FloatArray>, val rate: Int) {
        /** The mean of the channels; where it has lost most of their power, the loudest one. */
        fun mono(): FloatArray {
            if (channels.size == 1) return channels[0]
            val mixed = FloatArray(channels[0].size) { i ->
                var sum = 0f
                for (channel in channels) sum += channel[i]
                sum / channels.size
            }
            val variances = channels.map(::variance)
            val isLost = variance(mixed) * variances.size < variances.average() / 2
            return if (isLost) channels[variances.indexOf(variances.max())] else mixed
        }

        private fun variance(samples: FloatArray): Double {
            val mean = samples.sumOf { it.toDouble() } / samples.size
            return samples.sumOf { it.toDouble() * it } / samples.size - mean * mean
        }
    }

    private const val PCM = 1
    private const val FLOAT = 3
    private const val EXTENSIBLE = 0xFFFE
    private const val FASTEST = 384_000L // Hz
    private const val LONGEST = 8 * 3600L // seconds
    private const val LARGEST = 8f // of a sample: integers are far beyond
    private const val MOST_PHASES = 640 // that each have a filter of their own
    private const val STEPS = 512 // between the filters that others are interpolated from
    private const val ZERO_CROSSINGS = 32
    private const val ROLLOFF = 0.945 // of the Nyquist frequency: where the filter has fallen to a half
    private const val BETA = 9.0
    private const val UNKNOWN_LENGTH = 0x7FFFF000L

    /**
     * Read a WAV file as mono samples at `rate` Hz.
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
     * @throws AudioError not WAV, truncated, empty, over 8 hours, a compressed format, or samples that are
     *     NaN, infinite or on the scale of integers.
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
        if (channels == 0 || align == 0 || rate !in 1..FASTEST || align * 8 != channels * bits) {
            throw AudioError(
                "$path: $channels channels of $bits bits at $rate Hz make no sense; convert the recording to WAV again",
            )
        }
        val sample = sampleReader(path, kind, bits, data)
        val frames = data.remaining() / align
        if (frames == 0) throw AudioError("$path: holds no samples; give a recording that is not empty")
        if (frames > LONGEST * rate) throw AudioError("$path: is over $LONGEST s long; cut it into parts")
        val samples = List(channels) { channel ->
            FloatArray(frames) { sample(it * align + channel * bits / 8) }
        }
        for (channel in samples) checkRange(path, channel)
        return Content(samples, rate.toInt())
    }

    /**
     * Refuse samples that are not those of a recording.
     *
     * @throws AudioError NaN, infinite or on the scale of integers.
     */
    internal fun checkRange(name: String, samples: FloatArray) {
        var largest = 0f
        for (sample in samples) {
            if (!sample.isFinite()) {
                throw AudioError("$name: holds NaN or infinite samples; remove it or record it again")
            }
            largest = max(largest, abs(sample))
        }
        if (largest > LARGEST) {
            throw AudioError(
                "$name: samples reach $largest, a recording stays within -1 to 1; divide them by the largest " +
                    "integer of their format (16 bits: 32768)",
            )
        }
    }

    /**
     * Change the rate of mono PCM: ceil(samples * rate / sourceRate) samples.
     *
     * With both rates divided by their greatest common divisor, to `up` and `down`, output n lies at
     * input position n * down / up: one of `up` phases, each with its own filter of input samples, or
     * one interpolated between two of [STEPS] + 1 where they are more than [MOST_PHASES].
     */
    fun resample(pcm: FloatArray, sourceRate: Int, rate: Int): FloatArray {
        if (sourceRate == rate) return pcm
        val divisor = greatestCommonDivisor(sourceRate, rate)
        val up = rate / divisor
        val down = sourceRate / divisor
        val filters = Filters(up, ROLLOFF * min(1.0, up.toDouble() / down))
        val length = ((pcm.size.toLong() * up + down - 1) / down).toInt()
        return FloatArray(length) { n ->
            val position = n.toLong() * down
            val phase = (position % up).toInt()
            val taps = filters.of(phase)
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

    /** The filters of all phases, each made when it is first needed. */
    private class Filters(private val up: Int, private val cutoff: Double) {
        private val made = HashMap<Int, DoubleArray>()

        /** The filter of phase numerator / up. */
        fun of(numerator: Int): DoubleArray {
            if (up <= MOST_PHASES) return made.getOrPut(numerator) { filter(numerator.toDouble() / up, cutoff) }
            val place = numerator.toLong() * STEPS
            val step = (place / up).toInt()
            val share = (place % up).toDouble() / up
            val before = stepped(step)
            val after = stepped(step + 1)
            return DoubleArray(before.size) { (1 - share) * before[it] + share * after[it] }
        }

        private fun stepped(step: Int) = made.getOrPut(step) { filter(step.toDouble() / STEPS, cutoff) }
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

    /** The file's chunks by id up to its data, the first of each. */
    private fun chunks(path: String, content: ByteArray): Map<String, ByteBuffer> {
        val chunks = HashMap<String, ByteBuffer>()
        val whole = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
        val riff = whole.getInt(4).toLong() and 0xFFFFFFFFL
        val isPiped = riff == 0L || riff >= UNKNOWN_LENGTH
        var position = 12L
        while (position + 8 <= content.size && !("fmt " in chunks && "data" in chunks)) {
            val at = position.toInt()
            val name = text(content, at)
            val length = whole.getInt(at + 4).toLong() and 0xFFFFFFFFL
            val isUnknown = name == "data" && (length >= UNKNOWN_LENGTH || (length == 0L && isPiped))
            val left = content.size - position - 8
            val there = if (isUnknown && length == 0L) left else min(length, left)
            if (there < length && !isUnknown) {
                throw AudioError("$path: is cut off, ${name.trim()} chunk has $there of $length bytes; copy it again")
            }
            if (name !in chunks) {
                chunks[name] = ByteBuffer.wrap(content, at + 8, there.toInt()).slice().order(ByteOrder.LITTLE_ENDIAN)
            }
            position += 8 + max(length, there) + length % 2
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
