package mqtool.demo

import android.content.Context
import android.media.AudioAttributes
import android.media.AudioFocusRequest
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.MediaRecorder
import kotlin.concurrent.thread

/** Where recordings come from. */
interface Microphone {
    /** Why a recording ended without [stop]. */
    enum class Failure { UNAVAILABLE, INTERRUPTED }

    /**
     * Begin to record 16 kHz mono.
     *
     * @param onChunk gets samples in [-1, 1], on the microphone's own thread.
     * @param onFailure called at most once, likewise; nothing comes after it.
     */
    fun start(onChunk: (FloatArray) -> Unit, onFailure: (Failure) -> Unit)

    /** End the recording; when it returns the last chunk has been given. Not for the microphone's thread. */
    fun stop()
}

/** The phone's microphone. A call, or another app that takes the sound, ends the recording. */
class PhoneMicrophone(context: Context) : Microphone {
    private val audio = context.getSystemService(AudioManager::class.java)
    @Volatile private var recording = false
    @Volatile private var interrupted = false
    private var worker: Thread? = null
    private val focus = AudioFocusRequest.Builder(AudioManager.AUDIOFOCUS_GAIN_TRANSIENT_EXCLUSIVE)
        .setAudioAttributes(AudioAttributes.Builder().setContentType(AudioAttributes.CONTENT_TYPE_SPEECH).build())
        .setOnAudioFocusChangeListener { change -> if (change < 0) interrupted = true }
        .build()

    override fun start(onChunk: (FloatArray) -> Unit, onFailure: (Microphone.Failure) -> Unit) {
        stop()
        recording = true
        interrupted = audio.requestAudioFocus(focus) != AudioManager.AUDIOFOCUS_REQUEST_GRANTED
        worker = thread(name = "microphone") {
            val failure = record(onChunk)
            audio.abandonAudioFocusRequest(focus)
            if (failure != null) onFailure(failure)
        }
    }

    override fun stop() {
        recording = false
        worker?.join()
        worker = null
    }

    private fun record(onChunk: (FloatArray) -> Unit): Microphone.Failure? {
        val record = try {
            open()
        } catch (error: RuntimeException) { // no permission any more, or no such microphone
            null
        }
        if (record == null || record.state != AudioRecord.STATE_INITIALIZED) {
            record?.release()
            return Microphone.Failure.UNAVAILABLE
        }
        try {
            record.startRecording()
            if (record.recordingState != AudioRecord.RECORDSTATE_RECORDING) return Microphone.Failure.UNAVAILABLE
            val buffer = ShortArray(CHUNK)
            while (recording) {
                if (interrupted) return Microphone.Failure.INTERRUPTED
                val count = record.read(buffer, 0, buffer.size)
                if (count < 0) return Microphone.Failure.INTERRUPTED
                if (count > 0) onChunk(FloatArray(count) { buffer[it] / 32768f })
            }
            return null
        } catch (error: IllegalStateException) {
            return Microphone.Failure.UNAVAILABLE
        } finally {
            record.release()
        }
    }

    private fun open(): AudioRecord {
        val least = AudioRecord.getMinBufferSize(RATE, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT)
        return AudioRecord(
            MediaRecorder.AudioSource.VOICE_RECOGNITION,
            RATE,
            AudioFormat.CHANNEL_IN_MONO,
            AudioFormat.ENCODING_PCM_16BIT,
            maxOf(least, 2 * RATE * BUFFER_SECONDS),
        )
    }

    companion object {
        const val RATE = 16000
        private const val CHUNK = RATE / 10
        private const val BUFFER_SECONDS = 4 // so much may wait while a model is at work
    }
}
