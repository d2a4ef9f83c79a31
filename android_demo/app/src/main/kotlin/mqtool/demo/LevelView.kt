package mqtool.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** A bar that grows with the loudness, from -60 dB to full scale. */
class LevelView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)

    var levelDb = DemoState.SILENCE_DB
        set(value) {
            if (field == value) return
            field = value
            contentDescription = context.getString(R.string.level_db, value.toInt())
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val radius = height / 2f
        paint.color = context.getColor(R.color.surface)
        canvas.drawRoundRect(0f, 0f, width.toFloat(), height.toFloat(), radius, radius, paint)
        val share = ((levelDb - QUIETEST_DB) / -QUIETEST_DB).coerceIn(0.0, 1.0).toFloat()
        if (share == 0f) return
        paint.color = context.getColor(R.color.accent)
        canvas.drawRoundRect(0f, 0f, maxOf(width * share, 2 * radius), height.toFloat(), radius, radius, paint)
    }

    private companion object {
        const val QUIETEST_DB = -60.0
    }
}
